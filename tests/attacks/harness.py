"""One hostile input after another, each in a process of its own under bounds, and what a command promises of it.

The parent imports everything once and forks a child for each case, so that hundreds of cases take minutes. A case
holds where the exit code is one of those that are documented for it, and where `broken` finds nothing: no traceback, at
most two lines of error, bounded time and memory, the inputs as they were, and nothing written anywhere else.
"""

import hashlib
import math
import os
import resource
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SECONDS, LARGE_SECONDS = (
    20,
    60,
)  # of processor time, on a machine that counts as fast as most do; of files of 100 MB, whose reading shows a bar
_COUNTED = 0.06  # seconds in which such a machine counts to a million
MEMORY = 2_500_000_000  # bytes of resident memory beyond what the imports take; data of limit.data_gb takes up to 2 GB
ADDRESSES = 4_000_000_000  # bytes of address space beyond what the imports take
NOBODY = 65534
_HASHED = 4_000_000  # files up to so many bytes are compared by content, larger ones by size and time


@dataclass(frozen=True)
class Case:
    """A command and the input that it is to survive.

    group: a row of the table that the suite writes. name: of the case within it.
    words: of the command line; it runs in the folder that `make` has filled.
    make: puts the input into an empty folder.
    codes: exit codes that are right.
    writes: names in the folder that the command may make or change.
    user: the user id that it runs as; by default the caller's.
    check: what else must hold once it has ended: gets the folder and stdout, returns what is wrong, or nothing.
    seconds: of processor time that it may take.
    """

    group: str
    name: str
    words: Sequence[str]
    make: Callable[[Path], object]
    codes: frozenset[int]
    writes: frozenset[str] = frozenset()
    user: int | None = None
    check: Callable[[Path, str], str] | None = None
    seconds: int = SECONDS


@dataclass(frozen=True)
class Verdict:
    """How a case went. problem: what did not hold; empty where all did."""

    group: str
    name: str
    words: str
    problem: str
    seconds: float
    megabytes: float
    stderr: str


@dataclass(frozen=True)
class Ended:
    """A child that has ended: its exit code (or less than 0, the signal), processor seconds, resident bytes beyond
    those of its parent, and whether it had to be killed since it was waiting for something."""

    code: int
    seconds: float
    resident: int
    hung: bool


def slowness() -> float:
    """How many times longer than most this machine takes now, at least 1: it may be shared, and then changes."""
    return _slowness(int(time.monotonic() / 60))


@lru_cache(maxsize=1)
def _slowness(minute: int) -> float:
    times = []
    for _ in range(3):
        began, count = time.process_time(), 0
        while count < 1_000_000:
            count += 1
        times.append(time.process_time() - began)
    return max(1.0, min(times) / _COUNTED)


def attack(case: Case, scratch: Path) -> Verdict:
    """Run one case in `scratch`, which is emptied first."""
    remove(scratch)
    folder, outside = scratch / "here", scratch / "outside"
    for path in (folder, outside):
        path.mkdir(parents=True)
        path.chmod(0o777)
    (outside / "victim").write_bytes(b"as it was")
    case.make(folder)
    before, before_outside = snapshot(folder), snapshot(outside)
    out, err = scratch / "stdout", scratch / "stderr"
    ended = in_child(case.words, folder, out, err, case.user, seconds=case.seconds)
    stderr = err.read_text(errors="replace")
    problem = _broken(case, ended, stderr)
    problem = problem or _changes(before, snapshot(folder), case.writes) or _changes(before_outside, snapshot(outside))
    if not problem and case.check is not None:
        problem = case.check(folder, out.read_text(errors="replace"))
    shown = stderr if problem else ""
    megabytes = ended.resident / 1e6
    remove(scratch)
    return Verdict(
        case.group, case.name, " ".join(case.words), problem, ended.seconds / slowness(), megabytes, shown[-1500:]
    )


def _broken(case: Case, ended: Ended, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    if ended.hung:
        return "it hangs"
    if ended.code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it takes more than {case.seconds} s of a usual machine's processor"
    if ended.code < 0:
        return f"it dies of signal {-ended.code}"
    if ended.resident > MEMORY:
        return f"it takes {ended.resident / 1e9:.1f} GB"
    if "Traceback" in stderr or "fault in vaekit" in stderr:
        return f"a foreign exception, exit {ended.code}"
    if ended.code not in case.codes:
        return f"exit {ended.code}, not {' or '.join(map(str, sorted(case.codes)))}"
    if ended.code and not lines:
        return "no word of error"
    lines = [line for line in lines if "networks compute in bf16" not in line]  # a word of some machines
    if len(lines) > 2 or len(stderr) > 3000:
        return f"{len(lines)} lines, {len(stderr)} characters of error"
    return ""


def _changes(before: dict[str, tuple], after: dict[str, tuple], allowed: Iterable[str] = ()) -> str:
    odd = sorted(
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
        and not any(path == name or path.startswith(f"{name}/") for name in allowed)
    )
    return f"it changes {', '.join(map(ascii, odd[:3]))}" if odd else ""


def in_child(
    words: Sequence[str],
    folder: Path,
    out: Path,
    err: Path,
    user: int | None = None,
    start: Callable = lambda: None,
    seconds: int = SECONDS,
) -> Ended:
    """Run a command line in a forked child, in `folder`.

    start: called in the child before the command.
    seconds: of processor time that it may take, on a machine as most are.
    """
    seconds = math.ceil(seconds * slowness())
    began, base = time.monotonic(), _resident(os.getpid())
    child = os.fork()
    if child == 0:
        _become_the_command(words, folder, out, err, user, start, seconds)
    return wait_for(child, began, base)


def wait_for(child: int, began: float, base: int) -> Ended:
    """Wait until a child ends, or hangs and is killed."""
    wall, hung = began + SECONDS, False
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > wall:
            # a busy machine lets it wait for a processor, of whose time it has its bound; a FIFO, for something else
            hung = _busy_seconds(child) < 0.05 * (time.monotonic() - began)
            if hung or time.monotonic() > began + 60 * SECONDS:
                os.kill(child, signal.SIGKILL)
            wall += SECONDS
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, usage.ru_utime + usage.ru_stime, max(0, usage.ru_maxrss * 1024 - base), hung)


def _become_the_command(
    words: Sequence[str], folder: Path, out: Path, err: Path, user: int | None, start: Callable, seconds: int
) -> None:
    """In the child: bounds, streams, the command, and the end of the process."""
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(opened, descriptor)
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.update(HOME=str(folder.parent.parent / "home"), COLUMNS="200")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, size + ADDRESSES))
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        start()
        from vaekit.cli.main import main

        main(list(words))
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        with suppress(BaseException):
            print(f"Traceback: {type(error).__name__} leaves main: {error}", file=sys.stderr)
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def warm() -> None:
    """Import what commands import, so that a child starts with all of it."""
    import importlib

    import sklearn.datasets
    import torch

    torch.set_num_threads(1)
    for name in ("main", "suites", "console.running", "console.context", "console.writing"):
        importlib.import_module(f"vaekit.cli.{name}")
    formats = ("csv", "feather", "jsonl", "parquet", "pictures", "sounds", "sparse")
    for name in (*(f"data.formats.{one}" for one in formats), "report.page", "models.networks.flow"):
        importlib.import_module(f"vaekit.{name}")
    for name in ("h5py", "soundfile", "scipy.sparse", "scipy.signal"):
        with suppress(ImportError):
            importlib.import_module(name)
    sklearn.datasets.load_digits()


def run(words: Sequence[str], folder: Path) -> None:
    """Run a command that is to succeed, as the preparation of cases."""
    out, err = folder / ".stdout", folder / ".stderr"
    ended = in_child(words, folder, out, err)
    if ended.code:
        raise RuntimeError(f"vaekit {' '.join(words)}: exit {ended.code}: {err.read_text()}")
    out.unlink()
    err.unlink()


def snapshot(folder: Path) -> dict[str, tuple]:
    """What is in a folder, by path: type and permissions, size, and content, or the time of the last change."""
    found: dict[str, tuple] = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            facts = os.lstat(path)
            content: object = None
            if stat.S_ISREG(facts.st_mode):
                content = facts.st_mtime_ns
                if facts.st_size <= _HASHED:
                    content = hashlib.sha256(Path(path).read_bytes()).digest()
            elif stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            size = facts.st_size if stat.S_ISREG(facts.st_mode) else 0
            found[os.path.relpath(path, folder)] = (facts.st_mode, size, content)
    return found


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _busy_seconds(pid: int) -> float:
    """How long a process has run, or any of its threads has waited for a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    waited = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # one that has ended, or a kernel that does not count it
            waited += int((thread / "schedstat").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + waited / 1e9
