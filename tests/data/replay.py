"""Reads files that may be damaged, in a forked process under bounds of time and memory: what came of each."""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

SECONDS = 5  # of processor time for a file, each of which is tiny
MEMORY = 1_500_000_000  # bytes of address space beyond what the imports take
DATA_GB = 0.05
_ALARM = 600  # seconds after which a file ends the process that reads it, and a tenth of it of processor time
_PICTURES = ("png", "jpg", "gif", "tif", "webp", "bmp")
_SOUNDS = ("wav", "flac", "ogg", "mp3")


@dataclass(frozen=True)
class Verdict:
    """What came of a file: data, or an error of vaekit; problem: what did not hold, empty where all did."""

    kind: str
    problem: str = ""


def whole(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def put(place: Path, kind: str, content: bytes) -> Path:
    """Write a file of some kind; pictures and recordings go into a folder, four of one content."""
    if kind not in (*_PICTURES, *_SOUNDS):
        path = place.with_name(f"{place.name}.{kind}")
        path.write_bytes(content)
        return path
    folder = place.with_name(f"{place.name}-{kind}")
    folder.mkdir(exist_ok=True)
    for name in "abcd":
        (folder / f"{name}.{kind}").write_bytes(content)
    return folder


def read_all(paths: Sequence[Path]) -> list[Verdict]:
    """What comes of each file, in processes of which one is as a rule enough."""
    found: list[Verdict] = []
    _import()
    while len(found) < len(paths):
        inside, out = os.pipe()
        child = os.fork()
        if child == 0:
            _read_in_child(paths[len(found) :], out)
        os.close(out)
        with os.fdopen(inside) as lines:
            found += [Verdict(**json.loads(line)) for line in lines]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if len(found) < len(paths):
            endless = status in (-signal.SIGALRM, -signal.SIGPROF)
            why = f"it takes more than {_ALARM / 10:.0f} s" if endless else f"the process ends with {status}"
            found.append(Verdict("end", why))
    return found


def _import() -> None:
    import torch

    import vaekit.data.formats.csv
    import vaekit.data.formats.feather
    import vaekit.data.formats.jsonl
    import vaekit.data.formats.npz
    import vaekit.data.formats.parquet
    import vaekit.data.formats.pictures
    import vaekit.data.formats.sounds
    import vaekit.data.formats.sparse  # noqa: F401

    torch.set_num_threads(1)
    for name in ("h5py", "soundfile", "scipy.sparse", "scipy.signal"):
        with suppress(ImportError):
            __import__(name)


def _read_in_child(paths: Sequence[Path], out: int) -> None:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)  # decoders write what they think of a file
    for path in paths:
        signal.alarm(_ALARM)
        signal.setitimer(signal.ITIMER_PROF, _ALARM / 10)
        os.write(out, (json.dumps(asdict(_verdict(path))) + "\n").encode())
    os._exit(0)


def _verdict(path: Path) -> Verdict:
    from vaekit.data import DataSpec, Limit, prepare
    from vaekit.errors import VaekitError

    began = time.process_time()
    try:
        data = prepare(DataSpec(source=str(path)), Limit(data_gb=DATA_GB))
        data.valid.batch(slice(0, 10))
        verdict = Verdict("data")
    except VaekitError as error:
        said = str(error)
        good = said and len(said.splitlines()) <= 2 and len(said) < 3000 and said.isprintable()
        verdict = Verdict("error", "" if good else f"its error is {said[:500]!r}")
    except BaseException as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" ({Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno})"
        return Verdict("exception", f"{type(error).__name__}: {str(error)[:200]}{where}")
    seconds = time.process_time() - began
    return Verdict(verdict.kind, verdict.problem or (f"it takes {seconds:.1f} s" if seconds > SECONDS else ""))


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    json.dump([asdict(verdict) for verdict in read_all(given)], sys.stdout)
