"""Log-mel features against their definition, and back to sound; recordings of every kind, and what is none."""

import math
import os
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from naming import naming
from vaekit.data.sound import (
    BadSound,
    LogMel,
    fixed_length,
    griffin_lim,
    load,
    look,
    mel,
    read,
    resampled,
    wav_bytes,
    windows,
    write_wav,
)
from vaekit.errors import ConfigError, SpecError

RATE, LENGTH = 8000, 8192
SPEECH = LogMel(rate=RATE, window=256, hop=64, bands=64)


def chirp() -> Tensor:
    """Half a full-scale sine that rises from 200 to 2,760 Hz."""
    t = torch.arange(LENGTH, dtype=torch.float64) / RATE
    return 0.5 * torch.sin(2 * math.pi * (200 * t + 1250 * t**2))


def sine(frequency: float, rate: int, length: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(length) / rate).astype(np.float32)


def error_of_spectrum(made: Tensor, x: Tensor) -> float:
    """Distance between the magnitudes of two sounds, as a share of those of the second."""
    one, two = (SPEECH.spectrogram(sound).sqrt() for sound in (made, x))
    return float((one - two).norm() / two.norm())


def test_mel_is_its_formula() -> None:
    assert mel(torch.tensor([0.0, 700.0, 6300.0], dtype=torch.float64)).tolist() == pytest.approx(
        [0, 2595 * math.log10(2), 2595]
    )
    assert float(mel(torch.tensor(1000.0))) == pytest.approx(1000, abs=0.1)  # what the scale was made for


@pytest.mark.parametrize(
    "features", [SPEECH, LogMel(), LogMel(rate=22050, window=1023, bands=30, lowest=300, highest=9000)], ids=repr
)
def test_filters_are_triangles_in_mel_that_add_up_to_one(features: LogMel) -> None:
    filters = features.filters().numpy()
    to_mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    lowest, top = to_mel(features.lowest), to_mel(features.top)
    edges = np.linspace(lowest, top, features.bands + 2)
    bins = to_mel(np.arange(features.window // 2 + 1) * features.rate / features.window)
    expected = [np.interp(bins, edges[i : i + 3], [0, 1, 0]) for i in range(features.bands)]
    np.testing.assert_allclose(filters, expected, atol=1e-12)
    between = (bins >= edges[1]) & (bins <= edges[-2])
    np.testing.assert_allclose(filters.sum(0)[between], 1)
    assert filters.sum(0).max() <= 1 + 1e-12


@pytest.mark.parametrize("window", [256, 255])
def test_power_adds_up_to_the_mean_square_of_the_windowed_frame(window: int) -> None:
    features = LogMel(rate=RATE, window=window, hop=64, bands=20)
    x = torch.randn(2, 700, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    power = features.spectrogram(x)
    assert power.shape == (2, window // 2 + 1, features.frames(700))
    padded = np.pad(x.numpy(), [(0, 0), (window // 2, window)])
    weights = np.sin(np.pi * np.arange(window) / window) ** 4  # of a Hann window, squared
    for frame in range(features.frames(700)):
        part = padded[:, 64 * frame : 64 * frame + window]
        mean_square = (weights * part**2).sum(1) / weights.sum()
        np.testing.assert_allclose(power[..., frame].sum(1), mean_square, rtol=1e-9)


def test_bands_hold_all_energy_between_the_first_centre_and_the_last() -> None:
    x = torch.from_numpy(sine(1000, RATE, LENGTH)).double()
    bands = SPEECH(x).exp() - SPEECH.floor
    inner = slice(4, -4)  # frames that lie wholly within the sound
    torch.testing.assert_close(bands.sum(0)[inner], torch.full_like(bands[0, inner], 0.5), rtol=1e-4, atol=0)


def test_silence_is_the_floor() -> None:
    assert SPEECH(torch.zeros(3, 500)).shape == (3, 64, 8)
    torch.testing.assert_close(SPEECH(torch.zeros(500)), torch.full((64, 8), math.log(SPEECH.floor)))


def test_power_of_features_is_as_near_as_non_negative_least_squares() -> None:
    features = LogMel(rate=RATE, window=128, hop=64, bands=12)
    bands = (torch.rand(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1) / 100
    power = features.power((bands + features.floor).log())
    assert (power >= 0).all()
    for frame in range(5):
        _, best = nnls(features.filters().numpy(), bands[:, frame].numpy())
        missed = (features.filters() @ power[:, frame] - bands[:, frame]).norm()
        assert float(missed) == pytest.approx(best, abs=1e-3 * float(bands[:, frame].norm()))


def test_a_chirp_comes_back_from_its_magnitudes_and_from_its_features() -> None:
    x = chirp()
    magnitude = (SPEECH.spectrogram(x) / SPEECH.spectrogram(x).max()).sqrt()
    # Of one scale for all frequencies, the power of the two ends is half.
    magnitude[[0, -1]] *= math.sqrt(2)
    made = griffin_lim(magnitude, SPEECH.window, SPEECH.hop, LENGTH)
    made = made * (x.norm() / made.norm())
    assert error_of_spectrum(made, x) < 0.08
    few = griffin_lim(magnitude, SPEECH.window, SPEECH.hop, LENGTH, rounds=2)
    assert error_of_spectrum(few * (x.norm() / few.norm()), x) > 2 * error_of_spectrum(made, x)
    again = SPEECH.sound(SPEECH(x), LENGTH)
    assert again.shape == (LENGTH,)
    assert error_of_spectrum(again, x) < 0.25
    assert torch.equal(again, SPEECH.sound(SPEECH(x), LENGTH))


@pytest.mark.needs_data
def test_spoken_digits_come_back_from_their_features() -> None:
    files = sorted((Path(os.environ["VAEKIT_DATA"]) / "fsdd").glob("*.wav"))[::150]
    x = torch.from_numpy(np.stack([load(file, RATE, LENGTH) for file in files]))
    features = SPEECH(x)
    again = SPEECH.sound(features, LENGTH)
    assert error_of_spectrum(again, x) < 0.25
    assert float((SPEECH(again) - features).abs().mean()) < 0.06  # nats; features have a deviation of 3


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"hop": 600}, "hop"),
        ({"highest": 9000}, "highest"),
        ({"lowest": 4000, "highest": 3000}, "highest"),
        ({"window": 64, "hop": 32, "bands": 60}, "bands"),
    ],
)
def test_features_that_do_not_exist_are_refused(settings: dict, wrong: str) -> None:
    with pytest.raises(SpecError, check=naming(wrong, settings[wrong])):
        LogMel(**settings)


@pytest.mark.parametrize(("rate", "to"), [(44100, 8000), (8000, 22050), (48000, 16000), (16000, 16000)])
def test_a_resampled_sine_is_the_sine_at_the_other_rate(rate: int, to: int) -> None:
    found = resampled(sine(440, rate, rate), rate, to)
    assert found.shape == (to,)
    assert found.dtype == np.float32
    inner = slice(to // 10, -to // 10)
    np.testing.assert_allclose(found[inner], sine(440, to, to)[inner], atol=2e-3)


def test_a_tone_above_half_the_new_rate_is_gone() -> None:
    assert np.abs(resampled(sine(6000, 44100, 44100), 44100, 8000))[800:-800].max() < 1e-2


def test_sound_is_cut_or_padded_to_one_length() -> None:
    x = np.arange(5, dtype=np.float32)
    assert fixed_length(x, 3).tolist() == [0, 1, 2]
    assert fixed_length(np.stack([x, x]), 7).tolist() == [[0, 1, 2, 3, 4, 0, 0]] * 2
    assert windows(x, 2).tolist() == [[0, 1], [2, 3], [4, 0]]
    assert windows(x, 5).tolist() == [[0, 1, 2, 3, 4]]
    assert windows(x[:0], 2).tolist() == [[0, 0]]


def save_wav(path: Path, x: np.ndarray, width: int, rate: int = 8000) -> Path:
    """Sound (samples, channels) as a wav of integers of so many bytes."""
    levels = np.round(x * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    content = (levels + 128 if width == 1 else levels).astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(x.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return path


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_wav_of_integers_is_read_as_the_mean_of_its_channels(tmp_path: Path, width: int, channels: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (900, channels))
    path = save_wav(tmp_path / "sound.wav", x, width)
    assert look(path) == (8000, channels, 900)
    found, rate = read(path)
    assert rate == 8000
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x.mean(1), atol=2 ** (2 - 8 * width) + 1e-6)
    np.testing.assert_array_equal(read(path, 70)[0], found[:70])


def test_a_wav_that_is_written_is_read_again(tmp_path: Path) -> None:
    x = np.array([0, 0.5, -0.25, 1, -1, 3, -3], np.float32)
    write_wav(tmp_path / "sound.wav", x, 16000)
    assert (tmp_path / "sound.wav").read_bytes() == wav_bytes(x, 16000)
    found, rate = read(tmp_path / "sound.wav")
    assert rate == 16000
    np.testing.assert_allclose(found, np.clip(x, -1, 1), atol=1e-4)


@pytest.mark.parametrize(("rate", "to"), [(44100, 8000), (8000, 11025), (8000, 8000)])
@pytest.mark.parametrize("length", [1000, 30000])
def test_what_is_loaded_does_not_depend_on_how_much_is_read(tmp_path: Path, rate: int, to: int, length: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (20000, 1))
    path = save_wav(tmp_path / "sound.wav", x, 2, rate)
    whole = fixed_length(resampled(read(path)[0], rate, to), length)
    np.testing.assert_allclose(load(path, to, length), whole, atol=1e-7)


@pytest.mark.parametrize(
    ("suffix", "kind", "off"),
    [("flac", "PCM_16", 1e-4), ("wav", "FLOAT", 1e-6), ("ogg", "VORBIS", 0.1), ("mp3", "MPEG_LAYER_III", 0.1)],
)
def test_other_formats_are_read_by_soundfile(tmp_path: Path, suffix: str, kind: str, off: float) -> None:
    soundfile = pytest.importorskip("soundfile")
    x = np.stack([0.3 * sine(440, 22050, 22050), 0.3 * sine(880, 22050, 22050)], 1)
    path = tmp_path / f"sound.{suffix}"
    soundfile.write(path, x, 22050, kind)
    found, rate = read(path)
    assert rate == 22050
    assert look(path)[:2] == (22050, 2)
    n = min(len(found), len(x))
    assert n > 21000
    np.testing.assert_allclose(found[2000 : n - 2000], x.mean(1)[2000 : n - 2000], atol=off)
    if suffix != "wav":  # soundfile takes the length of a wav from the file
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(BadSound):
            read(path)


def test_a_missing_soundfile_is_one_line_with_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    path = tmp_path / "sound.flac"
    path.write_bytes(b"fLaC")
    with pytest.raises(ConfigError, match=r"sound.flac .* pip install 'vaekit\[audio\]'"):
        read(path)


def test_what_is_no_whole_recording_says_why(tmp_path: Path) -> None:
    whole = wav_bytes(sine(440, 8000, 5000), 8000)
    bad = {
        "cut": (whole[:3000], "is cut off: 3,522 of the 5,000 samples in its header are missing"),
        "header": (whole[:20], "damaged"),
        "no samples": (wav_bytes(np.zeros(0), 8000), "is a recording without samples"),
        "rate": (
            whole[:24] + (4_000_000_000).to_bytes(4, "little") + whole[28:],
            "says that a second has 4,000,000,000",
        ),
        "too long": (whole[:40] + (200_000_000).to_bytes(4, "little") + whole[44:], "more than 50 million samples"),
    }
    for name, (content, why) in bad.items():
        path = tmp_path / f"{name}.wav"
        path.write_bytes(content)
        with pytest.raises(BadSound, match=why):
            read(path)
    os.mkfifo(tmp_path / "fifo.wav")
    with pytest.raises(BadSound, match="is neither a file"):
        look(tmp_path / "fifo.wav")


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    x = np.zeros((100, 2), np.float32)
    x[50] = [np.inf, -np.inf]
    soundfile.write(tmp_path / "sound.wav", x, 8000, "FLOAT")
    with pytest.raises(BadSound, match="not finite"):
        read(tmp_path / "sound.wav")


def test_a_text_is_no_recording(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    (tmp_path / "text.wav").write_text("la la la " * 100)
    with pytest.raises(BadSound, match="is no recording that is read"):
        look(tmp_path / "text.wav")
