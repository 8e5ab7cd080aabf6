"""Files are written whole or not at all, and read only if they are regular and small enough."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from vaekit.files import NotRegular, TooLarge, parse_json, read_regular, sweep, temporary, write_whole, written


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with written(path) as file:
            file.write(b"half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_sweeps(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys\nfrom vaekit.files import written\n"
        "with written(sys.argv[1]) as file:\n"
        "    file.write(b'x' * 100_000); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_of_a_writer_at_work_stays(tmp_path):
    with written(tmp_path / "out.bin") as file:
        sweep(tmp_path)
        assert os.path.exists(file.name)


def test_what_writers_left_is_swept_if_they_were_on_this_machine(tmp_path):
    """Processes are known by their numbers, which say nothing of those of other machines that share the folder."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    names = (temporary(tmp_path / name).name for name in ("parts", "out.bin"))
    folder, file = (tmp_path / name.replace(f".{os.getpid()}-", f".{process.pid}-") for name in names)
    elsewhere = tmp_path / file.name.replace(file.name.split("-")[1], "0" * 8)
    folder.mkdir()
    for path in (folder / "part-0", file, elsewhere):
        path.write_bytes(b"x")
    write_whole(tmp_path / "next", b"y")
    assert set(tmp_path.iterdir()) == {elsewhere, tmp_path / "next"}


@pytest.mark.parametrize("mask", [0o077, 0o002, 0o022])
def test_permissions_are_those_of_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "out", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~mask


def test_a_replaced_file_keeps_its_permissions_and_a_link_stays_a_link(tmp_path):
    path, link = tmp_path / "out", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    write_whole(tmp_path / ("ö" * 127 + "x"), b"x")
    assert len(list(tmp_path.iterdir())) == 1


def test_only_regular_files_are_replaced_or_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for special in (tmp_path / "fifo", tmp_path, "/dev/zero", "/dev/null"):
        with pytest.raises(NotRegular):
            read_regular(special, 10)
        with pytest.raises(NotRegular):
            write_whole(special, b"x")
    for link in ("link", "loop"):
        with pytest.raises(NotRegular):
            read_regular(tmp_path / link, 10)
    assert read_regular(tmp_path / "link", 10, follow=True) == b"12345"
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(TooLarge):
        read_regular(tmp_path / "file", 4)


@pytest.mark.parametrize("text", ["[" * 200_000, "{", "9" * 10_000, b"\xff\xfe{", ""])
def test_json_that_is_none_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_a_key_that_stands_twice_is_found_at_once():
    many = ", ".join(f'"key{i}": 1' for i in range(50_000))
    began = time.process_time()
    with pytest.raises(ValueError, match="the key 'last' stands twice"):
        parse_json(f'{{{many}, "last": 1, "last": 2}}', unique=True)
    assert time.process_time() - began < 10
