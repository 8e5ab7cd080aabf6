"""What only a process of its own shows: start-up, signals, closed pipes."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from tiny import TINY

VAEKIT = [sys.executable, "-m", "vaekit"]
HEARS = ["env", "--default-signal=INT,HUP"]  # what starts the tests may have set them to be ignored


def test_help_takes_little_more_than_a_bare_start():
    """Measured as processor time beside that of Python alone, as machines differ: about 0.4 s on an idle one."""

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = seconds(sys.executable, "-c", "pass")
    assert seconds(*VAEKIT, "--help") < max(1.0, 60 * bare)


@pytest.mark.parametrize(
    "code", ["import vaekit", "import vaekit.cli.app", "from vaekit.cli.app import app; app(['--help'])"]
)
def test_nothing_imports_torch_before_it_is_needed(code):
    check = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0


def test_version():
    out = subprocess.run([*VAEKIT, "--version"], capture_output=True, text=True, check=True).stdout
    assert out.strip() == __import__("vaekit").__version__


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_cleanly_and_keeps_the_weights(tmp_path, number, code):
    words = ["train", "digits", *TINY.split(), "train.epochs=100000", "--run-dir", str(tmp_path / "run")]
    command = [*HEARS, *VAEKIT, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "run" / "metrics.jsonl").exists():
            break
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert f"Interrupted. To go on: vaekit train --resume {tmp_path / 'run'}" in out
    assert (tmp_path / "run" / "STATUS").read_text().startswith("interrupted at step")
    evaluated = subprocess.run([*VAEKIT, "evaluate", str(tmp_path / "run"), "--samples", "2"], capture_output=True)
    assert evaluated.returncode == 0


def test_a_terminal_shows_that_data_is_read():
    leader, follower = os.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        [*VAEKIT, "data", "digits"], stdout=subprocess.PIPE, stderr=follower, env=environment
    ) as process:
        os.close(follower)
        shown = b""
        with suppress(OSError):  # of a terminal that nobody writes to any more
            while block := os.read(leader, 4096):  # all the time: it holds but a few thousand bytes
                shown += block
        out, _ = process.communicate(timeout=300)
    os.close(leader)
    assert process.returncode == 0
    assert b"reading data" in shown
    assert b"1x8x8" in out or b"1, 8, 8" in out


def test_an_evaluation_that_is_stopped_goes_on_from_there(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("evaluation-*"))  # those of other tests
    words = [*VAEKIT, "evaluate", str(folder), "--json", "--samples"]
    command = [*HEARS, *words, "6000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if list(folder.glob("evaluation-*/0.npz")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert "interrupted; the same command goes on from there" in err
    (block,) = folder.glob("evaluation-*/*.npz")
    kept = block.stat().st_ino

    def rerun(samples: str) -> subprocess.Popen[str]:
        command = [*HEARS, *words, samples]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    out, err = rerun("3").communicate(timeout=300)
    assert json.loads(out)["log_likelihood"]["value"] < 0, err
    assert block.stat().st_ino == kept, "another K is another matter"
    out, err = rerun("6000").communicate(timeout=300)
    assert json.loads(out)["log_likelihood"]["value"] < 0, err
    assert not list(folder.glob("evaluation-*")), f"{err}\n{list(folder.glob('evaluation-*/*'))}"


def test_a_reader_that_leaves_early_is_no_error(trained):
    process = subprocess.Popen([*VAEKIT, "presets", "tutorial"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait() == 0


def test_a_reader_that_left_before_a_short_text_is_no_error(trained):
    """What is short waits in the stream until the command has ended, where Python buffers."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for words in (["--version"], ["evaluate", str(trained), "--samples", "2", "--json"]):
        process = subprocess.Popen([*VAEKIT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        process.stdout.close()
        with process.stderr as errors:
            assert errors.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("columns", ["0", "1", "-5", "9" * 30, "x"])
def test_a_width_that_no_screen_has_is_passed_over(columns):
    out = subprocess.run(
        [*VAEKIT, "train", "--help"], capture_output=True, timeout=300, env={**os.environ, "COLUMNS": columns}
    )
    assert (out.returncode, out.stderr) == (0, b"")
    assert b"--run-dir" in out.stdout


def test_plain_text_where_there_is_no_terminal(trained):
    env = {**os.environ, "TERM": "dumb", "COLUMNS": "30", "LANG": "C"}
    out = subprocess.run([*VAEKIT, "evaluate", str(trained), "--samples", "2"], capture_output=True, env=env)
    assert out.returncode == 0
    assert b"\x1b" not in out.stdout + out.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_first_second_is_one_line(trained, tmp_path, number):
    """At moments from the first line of vaekit on to the imports and the work of a verb."""
    (tmp_path / "z.npy").write_bytes(b"old")
    words = ["encode", str(trained), "--force", "--out", str(tmp_path / "z.npy")]
    program = f"import vaekit.cli.main as m, os, sys; os.write(1, b'.'); sys.argv[1:] = {words!r}; m.main()"
    for delay in (0.01, 0.1, 0.4):
        process = subprocess.Popen(
            [*HEARS, sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.read(1)
        time.sleep(delay)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 128 + number, err
        assert err.decode() in ("vaekit: interrupted\n", f"vaekit: ended by {number.name}\n")
    assert (tmp_path / "z.npy").read_bytes() == b"old"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_between_two_parts_of_the_program_is_one_line(number):
    """Where nothing that a command does is on the stack: it is the entry point that has the last word."""
    program = "import os, vaekit.cli.main as m, vaekit.cli.console.running as r\n"
    program += f"r.run = lambda *_: os.kill(os.getpid(), {number:d})\nm.main()"
    done = subprocess.run([*HEARS, sys.executable, "-c", program], capture_output=True, text=True)
    said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"vaekit: {said}\n")


def test_what_nohup_ignores_stays_ignored():
    program = "import os, vaekit.cli.main as m\nwith m.interruptible([]):\n    os.kill(os.getpid(), 1)"
    assert subprocess.run(["env", "--ignore-signal=HUP", sys.executable, "-c", program]).returncode == 0


def test_any_encoding_of_the_terminal_will_do(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "été")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    words = [*VAEKIT, "evaluate", str(run), "--samples", "2", "--rows", "20"]
    out = subprocess.run(words, env={**os.environ, **ascii_only}, capture_output=True)
    assert out.returncode == 0, out.stderr
    assert b"+/- s.e." in out.stdout


def test_full_and_closed_streams():
    with open("/dev/full", "wb") as full:
        out = subprocess.run([*VAEKIT, "presets"], stdout=full, stderr=subprocess.PIPE)
        assert (out.returncode, b"cannot write to standard output" in out.stderr) == (1, True)
        out = subprocess.run([*VAEKIT, "presets", "nothing"], stdout=subprocess.PIPE, stderr=full)
        assert (out.returncode, out.stdout) == (2, b"")
    for closed in (">&-", "2>&-", ">&- 2>&- <&-"):
        out = subprocess.run(["sh", "-c", f"{' '.join(VAEKIT)} presets {closed}"], capture_output=True)
        assert (out.returncode, out.stderr) == (0, b"")


def test_a_training_that_nobody_reads_ends_quietly_and_says_so_in_its_folder(tmp_path):
    words = ["train", "digits", *TINY.split(), "train.epochs=100000", "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen([*VAEKIT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    with process.stderr as errors:
        assert b"Traceback" not in errors.read()
    assert process.wait(timeout=300) == 128 + signal.SIGPIPE
    assert (tmp_path / "run" / "STATUS").read_text().startswith("interrupted at step")


def test_a_folder_that_is_gone_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    line = f"cd {tmp_path / 'gone'} && rmdir {tmp_path / 'gone'} && {sys.executable} -m vaekit data digits"
    out = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert (out.returncode, "has been removed" in out.stderr, "Traceback" in out.stderr) == (2, True, False)


@pytest.mark.parametrize(
    "variables",
    [
        "WORLD_SIZE=two",
        "WORLD_SIZE=2",
        "RANK=3",
        "WORLD_SIZE=2 RANK=5 MASTER_ADDR=localhost MASTER_PORT=29500",
        "WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost MASTER_PORT=port",
        "WORLD_SIZE=-1",
    ],
)
def test_variables_of_a_launcher_that_make_no_sense_are_named(cli, trained, monkeypatch, variables):
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    code, _, err = cli(f"evaluate {trained}")
    assert (code, "the variable" in err) == (2, True), err
