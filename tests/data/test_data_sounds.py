"""A folder of recordings: its features, labels and lengths, the way back to sound, and what is none."""

import re
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from reading import load, refused

from naming import naming
from vaekit.cli.main import main
from vaekit.data import DataSpec, Limit, Real, Schema, StreamedRows, prepare
from vaekit.data.dataset import read_like
from vaekit.data.open import open_table
from vaekit.data.sound import RATES, LogMel, resampled, write_wav
from vaekit.data.sound import load as load_sound
from vaekit.errors import ConfigError, SpecError

RATE = 8000
RNG = np.random.default_rng(0)
SPOKEN = [
    np.sin(2 * np.pi * (300 + 100 * k) * np.arange(3000 + 100 * k) / RATE) * RNG.uniform(0.2, 0.9) for k in range(12)
]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "set").mkdir()
    for k, x in enumerate(SPOKEN):
        write_wav(tmp_path / "set" / f"{k % 3}_{'ann' if k % 2 else 'bob'}_{k:02}.wav", x, RATE)
    return tmp_path / "set"


def test_rows_are_the_features_of_each_file(folder):
    table = load(folder)
    assert table.sound is not None
    assert table.sound.features == LogMel(rate=RATE, window=512, hop=128, bands=64)
    assert table.sound.length == 39 * 128  # 95 of 100 have 4045 samples or fewer, which 39 hops and so 40 frames cover
    assert (table.kind, table.shape, table.stored) == ("image", (1, 64, 40), Real())
    for row, file in zip(table.whole(), sorted(folder.iterdir()), strict=True):
        expected = table.sound.features(torch.from_numpy(load_sound(file, RATE, table.sound.length)))
        np.testing.assert_array_equal(row[0], expected)
    assert load(folder, layout="sequence").shape == (64, 40)
    np.testing.assert_array_equal(load(folder, layout="sequence").whole(), table.whole()[:, 0])
    refused(folder, error=SpecError, check=naming("DataSpec.layout", "volume"), layout="volume")


def test_rate_length_and_bands_by_setting(folder):
    table = load(folder, sound_rate=4000, sound_seconds=0.1, sound_bands=20)
    assert table.sound is not None
    assert (table.sound.features.rate, table.shape) == (4000, (1, 20, 8))
    x = resampled(SPOKEN[3].astype(np.float32), RATE, 4000)[: table.sound.length]
    expected = table.sound.features(torch.from_numpy(x))
    assert np.abs(table.whole()[0, 0] - expected.numpy()).mean() < 0.05  # of 16 bits
    assert "0.112 s at 4000 Hz, 20 bands by 8 frames" in table.note


@pytest.mark.parametrize(("rate", "window"), [(RATES[1], 16_384), (4000, 256)])
def test_the_window_fits_every_rate(tmp_path, rate, window):
    for k in range(10):
        write_wav(tmp_path / f"{k}.wav", RNG.uniform(-1, 1, rate // 20).astype(np.float32), rate)
    table = load(tmp_path)
    assert table.sound is not None
    assert table.sound.features.window == window


def test_parts_of_the_names_are_labels(folder):
    fields = ("digit", "speaker", "take")
    by_digit = load(folder, name_fields=fields, label="digit")
    assert by_digit.classes == ("0", "1", "2")
    assert by_digit.labels is not None
    assert by_digit.labels.tolist() == sorted(k % 3 for k in range(12))
    assert load(folder, name_fields=fields, label="speaker").classes == ("ann", "bob")
    assert load(folder, name_fields=("label", "b", "c")).classes == ("0", "1", "2")
    assert load(folder, name_fields=fields).labels is None
    conditional = prepare(
        DataSpec(source=str(folder), name_fields=fields, label="speaker", context=("label",)), Limit()
    )
    assert conditional.schema.context is not None
    refused(folder, "3 parts in its name", check=naming("DataSpec.name_fields", ["a", "b"]), name_fields=("a", "b"))
    refused(folder, check=naming("DataSpec.label", "digi"), name_fields=fields, label="digi")
    refused(folder, check=naming("DataSpec.label", "digit"), label="digit")


def test_subfolders_are_labels(folder):
    for file in list(folder.iterdir()):
        (folder / file.name[0]).mkdir(exist_ok=True)
        file.rename(folder / file.name[0] / file.name)
    assert load(folder).classes == ("0", "1", "2")
    (folder / "3").mkdir()
    refused(folder, "3 is a class without a recording")


def test_the_schema_leads_back_to_sound(folder):
    data = prepare(DataSpec(source=str(folder), sound_seconds=0.4), Limit())
    schema = Schema.from_json(data.schema.to_json())
    assert schema == data.schema
    assert schema.sound is not None
    rows = schema.to_stored(data.train.batch(slice(0, 2)).numpy())
    made = schema.sound.of_rows(rows)
    assert made.shape == (2, schema.sound.length)
    again = schema.sound.features(torch.from_numpy(made)).numpy()
    loud = rows[:, 0] > rows.max() - 3
    assert np.abs(again - rows[:, 0])[loud].mean() < 0.5


def test_other_recordings_have_the_same_features(folder, tmp_path):
    spec = DataSpec(source=str(folder), sound_bands=32)
    schema = prepare(spec, Limit()).schema
    (tmp_path / "other").mkdir()
    for k in range(3):
        write_wav(tmp_path / "other" / f"{k}.wav", np.repeat(SPOKEN[k], 4), 2 * RATE)
    assert schema.sound is not None
    assert read_like(str(tmp_path / "other"), spec, schema, Limit()).shape == schema.shape


def test_streamed_rows_are_the_same(folder):
    spec = DataSpec(source=str(folder), stream="always")
    streamed, whole = prepare(spec, Limit()), prepare(DataSpec(source=str(folder)), Limit())
    assert isinstance(streamed.train, StreamedRows)
    torch.testing.assert_close(streamed.valid.batch(slice(None)), whole.valid.batch(slice(None)))


@pytest.mark.parametrize("name", ["notes.txt", "empty.wav", "cut.wav", "text.flac"])
def test_bad_files_are_refused_or_skipped(folder, name):
    content = {"cut.wav": (folder / "0_bob_00.wav").read_bytes()[:-1000], "empty.wav": b""}.get(name, b"no sound here")
    if name == "text.flac":
        pytest.importorskip("soundfile")
    (folder / name).write_bytes(content)
    spec = DataSpec(source=str(folder), bad_files="skip")
    assert len(open_table(spec, Limit())) == 12
    assert f"1 of 13 files skipped as not whole recordings ({name})" in prepare(spec, Limit()).schema.protocol
    refused(folder, name, "DataSpec.bad_files=skip")


def test_without_soundfile_one_line_says_what_brings_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert len(load(folder)) == 12
    (folder / "a.mp3").write_bytes(b"ID3")
    with pytest.raises(ConfigError, match=re.escape("pip install 'vaekit[audio]'")):
        load(folder)


def test_settings_for_recordings(tmp_path, folder):
    with pytest.raises(SpecError, check=naming("DataSpec.image_size", (6, 5))):
        load(folder, image_size=(6, 5))
    with pytest.raises(SpecError, check=naming("DataSpec.sound_rate", 8000)):
        open_table(DataSpec(source="digits", sound_rate=8000), Limit())


def test_samples_are_written_as_sound(folder, tmp_path):
    run = str(tmp_path / "run")
    for words in (
        ["train", str(folder), "--run-dir", run, "train.epochs=1", "data.sound_bands=16"],
        ["sample", run, "-n", "2", "--out", str(tmp_path / "a.wav")],
    ):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
        assert file.getnframes() == 2 * (39 * 128 + 1600)
