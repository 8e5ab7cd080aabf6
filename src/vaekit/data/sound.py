"""Sound: recordings as log-mel spectrograms of one size, and back to sound.

file --read, resampled, fixed_length--> (samples,) --LogMel--> features (bands, frames)
features --LogMel.power--> power spectrogram --griffin_lim--> (samples,) --write_wav--> file
"""

import io
import math
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vaekit.data.bounds import why_not
from vaekit.errors import ConfigError, SpecError
from vaekit.files import write_whole
from vaekit.randomness import Purpose, new_generator
from vaekit.spec import spec
from vaekit.words import plural

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MOST_SAMPLES = 50_000_000  # of a recording, all channels together: 20 minutes of stereo from a CD
LARGEST_WINDOW = 16_384  # samples
RATES = (1000, 768_000)  # samples a second, at least and at most

_BLOCK = 1 << 18  # frames that are decoded at once
_WITHOUT_EXTRA = "is read by the package soundfile, which is not installed: pip install 'vaekit[audio]'"

_ROUNDS_OF_POWER = 100
_MOMENTUM = 0.99  # of Perraudin et al.


class BadSound(Exception):
    """A file that is not a whole recording, and why."""


def look(path: Path) -> tuple[int, int, int]:
    """Samples a second, channels and samples in each channel of a recording, from its header alone.

    Raises:
        BadSound: It has none, or says that the recording has more than 50 million samples.
        ConfigError: It is no wav of integers, and soundfile is not installed.
    """
    with _opened(path) as sound:
        return sound.rate, sound.channels, sound.length


def read(path: Path, most: int | None = None) -> tuple[np.ndarray, int]:
    """The mean of a recording's channels, float32 (samples,) from -1 to 1, and how many samples a second has.

    A wav of integers is read by Python itself, everything else by soundfile.

    Args:
        path: Of a wav, flac, ogg or mp3 file.
        most: Samples that are wanted; what follows is not read.

    Raises:
        BadSound: It is no recording, it is damaged or cut off, or it has no samples or more than 50 million.
        ConfigError: It is no wav of integers, and soundfile is not installed.
    """
    with _opened(path) as sound:
        wanted = sound.length if most is None else min(most, sound.length)
        blocks: list[np.ndarray] = []
        while wanted > 0:
            block = sound.block(min(wanted, _BLOCK))
            if not len(block):
                raise BadSound(
                    f"is cut off: {wanted:,} of the {sound.length:,} samples in its header "
                    f"{plural(wanted, 'is', 'are')} missing"
                )
            if not np.isfinite(block).all():
                raise BadSound("has samples that are not finite")
            blocks.append(block.mean(1, dtype=np.float32))
            wanted -= len(block)
        return np.concatenate(blocks), sound.rate


def load(path: Path, rate: int, length: int) -> np.ndarray:
    """The first `length` samples of a recording at `rate` samples a second, padded with silence: float32 (length,).

    No more of the file is read than they are made of.

    Raises:
        BadSound: As `read`.
        ConfigError: As `read`.
    """
    of_file, _, _ = look(path)
    per_sample = max(1.0, of_file / rate)
    samples, _ = read(path, math.ceil(length * of_file / rate + 20 * per_sample))  # the filter is 10 long each way
    return fixed_length(resampled(samples, of_file, rate), length)


def resampled(x: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Sound x (..., samples) of `rate` samples a second as one of `to`, by scipy's polyphase filter."""
    if rate == to:
        return x
    from scipy.signal import resample_poly

    common = math.gcd(rate, to)
    return resample_poly(x, to // common, rate // common, axis=-1).astype(np.float32)


def fixed_length(x: np.ndarray, length: int) -> np.ndarray:
    """Sound x (..., samples) cut to `length` samples, or padded with silence."""
    x = x[..., :length]
    return np.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, length - x.shape[-1])])


def windows(x: np.ndarray, length: int) -> np.ndarray:
    """Sound x (samples,) as one window after the other, (windows, length); the last is padded with silence."""
    count = max(1, -(-len(x) // length))
    return fixed_length(x, count * length).reshape(count, length)


@spec
class LogMel:
    """Log-mel features: ln of the mean square in bands of equal width in mel, frame by frame.

    A frame of n samples is multiplied by a Hann window, and its spectrum X gives the power c |X|^2 / (n sum(window^2)),
    where c is 2, but 1 at 0 Hz and at half the rate: so power adds up to the mean square of the frame, weighted by the
    square of the window. Frequencies in mel are 2595 log10(1 + f / 700); a band's filter is a triangle over them that
    falls from 1 at its centre to 0 at the centres of its neighbours, as in HTK (Young et al., The HTK Book, section
    5.4), so that the filters add up to 1 between the first centre and the last.

    Args:
        rate: Samples a second.
        window: Samples of a frame.
        hop: Samples from one frame to the next, at most half of a window.
        bands: Of the features.
        lowest: Frequency in hertz where the first band begins.
        highest: Frequency in hertz where the last one ends; by default half the rate.
        floor: Mean square that is added in each band, against ln 0: 1e-7 is 67 dB below a sine of amplitude 1.

    Example:
        >>> LogMel(rate=8000, window=256, hop=64, bands=40)(torch.zeros(5, 4096)).shape
        torch.Size([5, 40, 65])
    """

    rate: Annotated[int, Field(ge=RATES[0], le=RATES[1])] = 16_000
    window: Annotated[int, Field(ge=16, le=LARGEST_WINDOW)] = 1024
    hop: Annotated[int, Field(ge=1)] = 256
    bands: Annotated[int, Field(ge=1, le=512)] = 64
    lowest: Annotated[float, Field(ge=0)] = 0.0
    highest: Annotated[float, Field(gt=0)] | None = None
    floor: Annotated[float, Field(gt=0)] = 1e-7

    def __post_init__(self) -> None:
        if 2 * self.hop > self.window:
            raise SpecError(
                f"hop is {self.hop}: it is at most half of the window, which is {self.window}",
                field="hop",
                value=self.hop,
            )
        if not self.lowest < self.top <= self.rate / 2:
            raise SpecError(
                f"lowest is {self.lowest:g} and highest {self.top:g} Hz: they rise, up to half the rate, "
                f"{self.rate / 2:g} Hz",
                field="highest",
                value=self.highest,
            )
        if not bool(self.filters().any(1).all()):
            raise SpecError(
                f"bands is {self.bands}, and some of them lie between two of the {self.window // 2 + 1} frequencies of "
                f"a window of {self.window} samples: use fewer bands, or a longer window",
                field="bands",
                value=self.bands,
            )

    @property
    def top(self) -> float:
        """Frequency in hertz where the last band ends."""
        return self.rate / 2 if self.highest is None else self.highest

    def frames(self, length: int) -> int:
        """How many frames so many samples have."""
        return 1 + length // self.hop

    def filters(self) -> Tensor:
        """The bands' weights of each frequency, (bands, window // 2 + 1)."""
        lowest, top = (float(mel(torch.tensor(f, dtype=torch.float64))) for f in (self.lowest, self.top))
        step = (top - lowest) / (self.bands + 1)
        centres = lowest + step * torch.arange(1, self.bands + 1, dtype=torch.float64)
        of_bin = mel(torch.arange(self.window // 2 + 1, dtype=torch.float64) * self.rate / self.window)
        return (1 - (of_bin - centres[:, None]).abs() / step).clamp_min(0)

    def spectrogram(self, x: Tensor) -> Tensor:
        """The power of sound x (..., samples) at each frequency, (..., window // 2 + 1, frames)."""
        return _stft(x, self.window, self.hop).abs().square() * self._unit.to(x)

    def __call__(self, x: Tensor) -> Tensor:
        """The features of sound x (..., samples), (..., bands, frames)."""
        return (self.filters().to(x) @ self.spectrogram(x) + self.floor).log()

    def power(self, features: Tensor) -> Tensor:
        """A power spectrogram with these features: the non-negative least squares of the mean squares in the bands.

        They are found by multiplicative updates from a spectrum that is flat within each band (Lee and Seung, 2001),
        since many spectra have the same features.
        """
        filters = self.filters().to(features)
        wanted = (features.exp() - self.floor).clamp_min(0)
        back = filters.T @ wanted
        power = filters.T @ (wanted / filters.sum(1, keepdim=True))
        tiny = torch.finfo(power.dtype).tiny
        for _ in range(_ROUNDS_OF_POWER):
            power = power * back / (filters.T @ (filters @ power)).clamp_min(tiny)
        return power

    def sound(self, features: Tensor, length: int, rounds: int = 60) -> Tensor:
        """Sound (..., length) with about these features, (..., bands, frames): the phases are by `griffin_lim`."""
        magnitude = (self.power(features) / self._unit.to(features)).sqrt()
        return griffin_lim(magnitude, self.window, self.hop, length, rounds)

    @property
    def _unit(self) -> Tensor:
        """c / (n sum(window^2)) of each frequency, (window // 2 + 1, 1)."""
        twice = torch.full((self.window // 2 + 1, 1), 2.0, dtype=torch.float64)
        twice[0] = 1
        if self.window % 2 == 0:
            twice[-1] = 1
        return twice / (self.window * torch.hann_window(self.window, dtype=torch.float64).square().sum())


@spec
class Sound:
    """How recordings became rows, and can be had back.

    Attributes:
        features: Of a row.
        length: Samples of the sound that it has the features of.
    """

    features: LogMel
    length: Annotated[int, Field(ge=1)]

    @property
    def words(self) -> str:
        """What was done, for the protocol."""
        made, rate = self.features, self.features.rate
        size = f"{made.bands} bands by {made.frames(self.length)} frames"
        return f"log-mel features of {self.length / rate:.3g} s at {rate} Hz, {size}"

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Sound (n, length) of rows of features, (n, ..., bands, frames)."""
        features = torch.from_numpy(np.asarray(rows, np.float32)).reshape(len(rows), *rows.shape[-2:])
        return np.stack([self.features.sound(one, self.length).numpy() for one in features])


def mel(frequency: Tensor) -> Tensor:
    """Frequencies in hertz, in mel."""
    return 2595 * torch.log10(1 + frequency / 700)


def griffin_lim(magnitude: Tensor, window: int, hop: int, length: int, rounds: int = 60) -> Tensor:
    """Sound whose short-time spectrum has about these magnitudes.

    In turn the magnitudes are put in place of those of a spectrum, and the spectrum in place by that of the sound
    nearest to it, with the momentum of Perraudin, Balazs and Sondergaard (2013, "A fast Griffin-Lim algorithm");
    without it they are the iterations of Griffin and Lim (1984). The phases start at random ones that are always the
    same.

    Args:
        magnitude: Of the spectrum, (..., window // 2 + 1, frames).
        window: Samples of a frame; they are weighted by a Hann window.
        hop: Samples from one frame to the next.
        length: Samples of the sound.
        rounds: Iterations.

    Returns:
        The sound, (..., length).
    """
    generator = new_generator(0, Purpose.PHASES)
    angles = 2 * math.pi * torch.rand(magnitude.shape[-2:], generator=generator, dtype=torch.float64).to(magnitude)
    spectrum, before = torch.polar(magnitude, angles.expand_as(magnitude)), None
    for _ in range(rounds):
        consistent = _stft(_istft(spectrum, window, hop, length), window, hop)
        moved = consistent if before is None else consistent + _MOMENTUM * (consistent - before)
        spectrum, before = torch.polar(magnitude, moved.angle()), consistent
    return _istft(spectrum, window, hop, length)


def wav_bytes(x: np.ndarray, rate: int) -> bytes:
    """Sound x (samples,) as the bytes of a wav file of 16 bits; beyond -1 and 1 it is cut."""
    levels = np.round(np.clip(x, -1, 1) * 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(levels.tobytes())
    return file.getvalue()


def write_wav(path: Path, x: np.ndarray, rate: int) -> None:
    """Replace a file by sound x (samples,), as a wav of 16 bits."""
    write_whole(path, wav_bytes(x, rate))


def _stft(x: Tensor, window: int, hop: int) -> Tensor:
    """The short-time spectrum of x (..., samples) between silence, (..., window // 2 + 1, frames)."""
    flat = x.reshape(-1, x.shape[-1])
    weights = torch.hann_window(window, dtype=x.dtype, device=x.device)
    found = torch.stft(flat, window, hop, window=weights, pad_mode="constant", return_complex=True)
    return found.reshape(*x.shape[:-1], *found.shape[1:])


def _istft(spectrum: Tensor, window: int, hop: int, length: int) -> Tensor:
    """The sound (..., length) whose short-time spectrum is nearest to this one."""
    weights = torch.hann_window(window, dtype=spectrum.real.dtype, device=spectrum.device)
    found = torch.istft(spectrum.reshape(-1, *spectrum.shape[-2:]), window, hop, window=weights, length=length)
    return found.reshape(*spectrum.shape[:-2], length)


@dataclass(frozen=True)
class _Recording:
    """A recording that is read block by block.

    Attributes:
        rate: Samples a second.
        channels: How many there are.
        length: Samples of each channel, as the header says.
        block: The next samples, at most so many, as (samples, channels) from -1 to 1; none at the end.
    """

    rate: int
    channels: int
    length: int
    block: Callable[[int], np.ndarray]


@contextmanager
def _opened(path: Path) -> Iterator[_Recording]:
    """A recording, whose decoder's errors are raised as BadSound."""
    if why := why_not(path):
        raise BadSound(why)
    with ExitStack() as stack:
        try:
            recording = _by_python(path, stack) or _by_soundfile(path, stack)
            if not RATES[0] <= recording.rate <= RATES[1]:
                raise BadSound(
                    f"says that a second has {recording.rate:,} samples, and {RATES[0]:,} to {RATES[1]:,} do"
                )
            if recording.length * recording.channels > MOST_SAMPLES:
                raise BadSound(f"has more than {MOST_SAMPLES // 1_000_000} million samples: divide it")
            if not recording.length:
                raise BadSound("is a recording without samples")
            yield recording
        except (wave.Error, EOFError, RuntimeError, ValueError) as error:  # the last two are soundfile's
            text = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise BadSound(f"is no recording that is read, or damaged ({text[:120].rstrip('.')})") from None


def _by_python(path: Path, stack: ExitStack) -> _Recording | None:
    """A wav of integers; None of anything else."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        return None
    try:
        wav = stack.enter_context(wave.Wave_read(str(path)))
    except wave.Error as error:
        if "format" in str(error):
            return None  # of floating point, or compressed
        raise
    channels, width = wav.getnchannels(), wav.getsampwidth()

    def block(most: int) -> np.ndarray:
        content = wav.readframes(most)
        whole = len(content) // (channels * width) * channels * width
        return _of_integers(content[:whole], width).reshape(-1, channels)

    return _Recording(wav.getframerate(), channels, wav.getnframes(), block)


def _of_integers(content: bytes, width: int) -> np.ndarray:
    """Little-endian integers of so many bytes, from -1 to 1; those of one byte have no sign."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if width == 2:
        return np.frombuffer(content, "<i2").astype(np.float32) / 32768
    if width == 3:
        highest = np.zeros((len(content) // 3, 4), np.uint8)
        highest[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        content = highest.tobytes()
    return np.frombuffer(content, "<i4").astype(np.float32) / 2**31


def _by_soundfile(path: Path, stack: ExitStack) -> _Recording:
    try:
        import soundfile  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(f"{path} {_WITHOUT_EXTRA}") from None
    file = stack.enter_context(soundfile.SoundFile(str(path)))
    return _Recording(
        file.samplerate, file.channels, file.frames, lambda most: file.read(most, "float32", always_2d=True)
    )
