"""A checkpoint is there whole or not at all, and one that was damaged is found out and named."""

import json
from types import SimpleNamespace

import pytest

from vaekit.errors import ModelFileError
from vaekit.training import Checkpoints

FILES = {
    "last.safetensors": bytes(range(256)) * 3,
    "training.safetensors": b"abc" * 99,
    "progress.json": b'{"step": 1}',
}


@pytest.fixture
def kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, FILES)
    checkpoints.save(2, {name: content[::-1] for name, content in FILES.items()})
    return checkpoints


def test_what_is_read_is_what_was_written(kept):
    newest = kept.newest()
    assert newest.path.name == "000002-step-2"
    assert newest.files == {name: content[::-1] for name, content in FILES.items()}


def test_the_newest_two_are_kept_and_numbers_go_on(kept):
    kept.save(1, FILES)  # after training went back
    assert sorted(path.name for path in kept.path.iterdir()) == ["000002-step-2", "000003-step-1"]
    assert kept.newest().files == FILES


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damage_is_found_named_and_passed_over(kept, name, damage):
    file = kept.newest().path / name
    whole = file.read_bytes()
    places = sorted({len(whole) * i // 64 for i in range(64)}) if damage in ("flip", "cut") else [0]
    for place in places:
        for bit in (0, 5) if damage == "flip" else (0,):
            hurt = bytearray(whole)
            hurt[place] ^= 1 << bit
            file.write_bytes({"flip": bytes(hurt), "cut": whole[:place], "empty": b"", "gone": b""}[damage])
            if damage == "gone":
                file.unlink()
            with pytest.warns(UserWarning, match=rf"{file}.*000001-step-1, is used"):
                assert kept.newest().files == FILES


def test_none_that_is_whole(kept):
    for path in kept.path.glob("*/progress.json"):
        path.write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"000002-step-2/progress\.json is damaged: it has 0 bytes, not 11"):
        kept.newest()
    with pytest.raises(ModelFileError, match="there is none"):
        Checkpoints(kept.path / "nowhere").newest()


def test_a_newer_format_is_refused_by_its_number(kept):
    file = kept.path / "000002-step-2" / "MANIFEST.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 2}, indent=2) + "\n")
    for read in (kept.newest, kept.tidy):  # neither passed over for the one before it, nor put aside as damaged
        with pytest.raises(ModelFileError, match=rf"{file} is of format 2, .* reads up to 1"):
            read()


@pytest.mark.parametrize("call", ["os.rename", "os.fsync"])
def test_a_save_that_fails_leaves_what_was_there(kept, monkeypatch, call):
    monkeypatch.setattr(call, lambda *words: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        kept.save(3, FILES)
    assert sorted(path.name for path in kept.path.iterdir()) == ["000001-step-1", "000002-step-2"]
    assert kept.newest().path.name == "000002-step-2"


def test_a_disk_without_room_is_asked_before(kept, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9, free=100))
    with pytest.raises(OSError, match="MB of disk are free"):
        kept.save(3, FILES)


def test_doubt_about_durability_is_not_failure(kept, monkeypatch):
    import vaekit.training.checkpoints.store as module

    sync, calls = module.sync_folder, []

    def fail_at_the_parent(path):
        calls.append(path)
        if path == kept.path:
            raise OSError(5, "Input/output error")
        sync(path)

    monkeypatch.setattr(module, "sync_folder", fail_at_the_parent)
    assert "a power cut might undo it" in kept.save(3, FILES)
    assert kept.newest().path.name == "000003-step-3"


def test_litter_is_swept(kept):
    (kept.path / "step-9.tmp-1-abcd").mkdir()
    (kept.path / "step-9.tmp-1-abcd" / "last.safetensors").write_bytes(b"x")
    assert kept.newest().path.name == "000002-step-2"
    kept.tidy()
    assert sorted(path.name for path in kept.path.iterdir()) == ["000001-step-1", "000002-step-2"]
