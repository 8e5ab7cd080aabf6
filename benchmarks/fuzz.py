"""Mutates the files of tests/data/corpus by seed and reads them as data: what fails is added to the corpus.

    python benchmarks/fuzz.py --minutes 10

A file of the corpus is read as `vaekit data` reads it, in processes that are forked and bounded in time and memory. It
holds where it gives a data set or an error of vaekit of one line. The counts are printed, or written to docs/fuzz.md.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "tests" / "data" / "corpus"
sys.path.insert(0, str(HERE.parent / "tests" / "data"))

from replay import SECONDS, put, read_all, whole  # noqa: E402

from facts import finish, paragraph, provenance, table  # noqa: E402

SEED = 0
BATCH = 40  # files that one process reads
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40)
WORDS = (
    b",",
    b'"',
    b"\n",
    b"\r\n",
    b"\t",
    b";",
    b"\0",
    b"\xff\xfe",
    b"NaN",
    b"1e400",
    b"-0",
    b"{",
    b"[",
    b"?",
    b"\xc3\xa9",
)


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A file that is damaged in one to four places: flipped, cut, spliced, or with other lengths."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 16, rng.randrange(1, 200)))
        match rng.randrange(9):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                del data[at : at + length]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                other = rng.choice(others)
                start = rng.randrange(max(1, len(other)))
                data[at : at + length] = other[start : start + length]
            case 6 | 7:
                width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
                number = rng.choice(NUMBERS) + rng.choice((0, 0, -1, 1))
                data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)
            case 8:
                data[at:at] = rng.choice(WORDS)
    return bytes(data)


def fuzz(minutes: float, seed: int) -> tuple[dict[str, Counter[str]], list[tuple[str, str, bytes]]]:
    """What became of the files of each kind, and the failures: name, what is wrong, content."""
    rng = random.Random(seed)
    files = whole(CORPUS)
    kinds: dict[str, list[bytes]] = {}
    for name, content in files.items():
        kinds.setdefault(name.split(".", 1)[1], []).append(content)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    failures: list[tuple[str, str, bytes]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() - began < 60 * minutes:
            batch = []
            for _ in range(BATCH):
                kind = rng.choice(list(kinds))
                batch.append((kind, mutated(rng.choice(kinds[kind]), kinds[kind], rng)))
            paths = [put(Path(scratch) / f"{place}", kind, content) for place, (kind, content) in enumerate(batch)]
            for (kind, content), verdict in zip(batch, read_all(paths), strict=True):
                found[kind][verdict.kind] += 1
                if verdict.problem:
                    failures.append((kind, verdict.problem, content))
                    print(f"{kind}: {verdict.problem[:300]!a}", flush=True)
    return found, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--write", type=Path, help="the page to write")
    arguments = parser.parse_args()
    began = time.monotonic()
    found, failures = fuzz(arguments.minutes, arguments.seed)
    seen: set[tuple[str, str]] = set()
    for place, (kind, problem, content) in enumerate(failures):
        if (kind, problem[:80]) not in seen:  # one of each
            seen.add((kind, problem[:80]))
            (CORPUS / f"found-{arguments.seed}-{place}.{kind}").write_bytes(content)
    rows = [
        [kind, sum(of.values()), of["data"], of["error"], sum(of.values()) - of["data"] - of["error"]]
        for kind, of in sorted(found.items())
    ]
    rows.append(["all", *(sum(row[place] for row in rows) for place in range(1, 5))])
    about = paragraph(
        "Files of every format that is read are flipped, cut, spliced and given other lengths, by the seed, and read. "
        f"Each holds where it gives data or an error of one line, within {SECONDS} s of processor time."
    )
    facts = provenance([arguments.seed], Duration=f"{(time.monotonic() - began) / 60:.0f} minutes")
    head = ["what is mutated", "cases", "read as data", "refused in one line", "failed"]
    verdict = (
        "All held." if not failures else "\n".join(f"- {kind}: {problem[:120]!a}" for kind, problem in sorted(seen))
    )
    finish(f"# Fuzzing\n\n{about}\n\n{facts}\n\n{table(head, rows)}\n\n{verdict}\n", not failures, arguments.write)


if __name__ == "__main__":
    main()
