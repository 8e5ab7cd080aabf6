"""Reports of recordings: spectrograms over seconds and kilohertz, and sounds that the page plays."""

import base64
import io
import re
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch

from vaekit.data.sound import write_wav
from vaekit.report import write_report
from vaekit.report.sounds import spectrograms, wavs
from vaekit.runs import open_run

RATE, LENGTH = 4000, 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory, train_convolved):
    above, time = tmp_path_factory.mktemp("sounds"), np.arange(LENGTH) / RATE
    (above / "tones").mkdir()
    for number in range(30):
        write_wav(above / "tones" / f"{number}.wav", 0.5 * np.sin(2 * np.pi * (200 + 40 * number) * time), RATE)
    return train_convolved(above / "tones", "sound_bands=16")


def test_a_report_of_recordings_shows_spectrograms_and_plays_them(folder, tmp_path):
    page = write_report([folder], tmp_path / "report.html", samples=2).read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert sum("log-mel features" in caption for caption in captions) == 2
    clips = re.findall(r'<audio controls preload="metadata" src="data:audio/wav;base64,([^"]*)"', page)
    assert len(clips) == 3 + 3 + 4  # of 3 test rows, their reconstructions, and samples
    assert "media-src data:" in page
    for clip in clips:
        with wave.open(io.BytesIO(base64.b64decode(clip))) as sound:
            assert sound.getframerate() == RATE
            assert sound.getnframes() >= LENGTH
    assert "reconstruction 3" in captions


def test_a_tone_sounds_as_high_as_it_is_and_a_spectrogram_shows_where(folder):
    sound = open_run(folder).schema.sound
    assert sound is not None
    time = np.arange(sound.length) / RATE
    tones = [sound.features(0.5 * torch.sin(2 * torch.pi * f * torch.from_numpy(time))).float() for f in (300, 1200)]
    rows = torch.stack(tones).numpy()
    for wav, wanted in zip(wavs(rows, sound), (300, 1200), strict=True):
        with wave.open(io.BytesIO(wav)) as file:
            x = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        found = np.fft.rfftfreq(len(x), 1 / RATE)[np.abs(np.fft.rfft(x * np.hanning(len(x)))).argmax()]
        assert abs(found - wanted) < 120  # about the width of a band
    pictures = [np.asarray(spectrograms([rows[place : place + 1]], sound, ("a tone",)), float) for place in (0, 1)]
    low, high = (picture.mean(2)[:, : picture.shape[1] // 4].mean(1) for picture in pictures)
    assert low.shape == high.shape
    panel = slice(len(low) // 5, 4 * len(low) // 5)
    assert low[panel].argmax() > high[panel].argmax()  # rows of a picture are counted from its top
    louder = replace(sound, length=sound.length)
    assert spectrograms([rows + 1, rows], louder, ("a", "b")).height > spectrograms([rows], sound, ("a",)).height
