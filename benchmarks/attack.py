"""Hostile files, run folders from unknown sources, hostile settings and outputs cut off: writes docs/attack.md.

    python benchmarks/attack.py --write docs/attack.md

Each case is a process of its own under bounds of time and memory. Ten minutes at most on two cores.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "attacks"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from cut_outputs import cut_verdicts, make_home  # noqa: E402
from harness import ADDRESSES, LARGE_SECONDS, MEMORY, SECONDS, Case, Verdict, attack, slowness, warm  # noqa: E402
from hostile_codes import codes_cases  # noqa: E402
from hostile_data import data_cases  # noqa: E402
from hostile_runs import make_run, run_cases  # noqa: E402
from hostile_settings import settings_cases  # noqa: E402
from hostile_sizes import size_cases  # noqa: E402

from facts import finish, paragraph, provenance, table  # noqa: E402

SEED = 0
SHARES = 2  # processes that attack side by side


def cases(root: Path, few: bool, rng: random.Random) -> Iterator[Case]:
    """Every case; or a few, the smallest instances of each kind."""
    foreign, home, times = root / "foreign", root / "outputs", 1 if few else 8
    for share, few_of_them, found in (
        (1.0, 0.1, data_cases(rng, times, large=not few, verbs=0 if few else 1)),
        (1.0, 0.06, size_cases(2_000_000 if few else 100_000_000)),
        (1.0, 0.07, codes_cases(home, rng, times)),
        (1.0, 0.12, settings_cases(rng, times)),
        (0.1, 0.004, run_cases(foreign, rng, 1 if few else 2)),
    ):
        yield from (case for case in found if rng.random() < (few_of_them if few else share))


def verdicts(root: Path, number: int, few: bool, only: str, seed: int) -> Iterator[Verdict]:
    """Those of one of the processes that attack side by side."""
    scratch, rng = root / f"scratch-{number}", random.Random(seed)
    for case in cases(root, few, random.Random(seed)):
        if rng.randrange(SHARES) == number and only in f"{case.group}: {case.name}: {' '.join(case.words)}":
            yield attack(case, scratch)
    if only in "outputs cut off":
        yield from cut_verdicts(root / "outputs", scratch, random.Random(seed + number), 1, 0.1 if few else 0.5)


def send_verdicts(end: Connection, root: Path, share: int, few: bool, only: str, seed: int) -> None:
    for verdict in verdicts(root, share, few, only, seed):
        end.send(verdict)
    end.send(None)


def attacked(few: bool, only: str = "", seed: int = SEED) -> Iterator[Verdict]:
    """The verdicts over all cases, as they come."""
    with tempfile.TemporaryDirectory() as scratch:
        root, ends = Path(scratch), []
        root.chmod(0o755)
        warm()
        make_run(root)
        make_home(root)
        context = multiprocessing.get_context("fork")
        for share in range(SHARES):
            ours, theirs = context.Pipe(duplex=False)
            context.Process(target=send_verdicts, args=(theirs, root, share, few, only, seed), daemon=False).start()
            theirs.close()
            ends.append(ours)
        while ends:
            for end in wait(ends):
                assert isinstance(end, Connection)
                verdict = end.recv()
                if verdict is None:
                    ends.remove(end)
                else:
                    yield verdict


def page(found: list[Verdict], seconds: float, seed: int) -> str:
    groups: dict[str, list[Verdict]] = {}
    for verdict in found:
        groups.setdefault(verdict.group, []).append(verdict)
    rows = [
        [
            group,
            len(of),
            sum(not verdict.problem for verdict in of),
            f"{max(verdict.seconds for verdict in of):.1f}",
            f"{max(verdict.megabytes for verdict in of):.0f}",
        ]
        for group, of in sorted(groups.items())
    ]
    total = [f"all {len(rows)} kinds", len(found), sum(not verdict.problem for verdict in found)]
    rows.append([*total, f"{max(v.seconds for v in found):.1f}", f"{max(v.megabytes for v in found):.0f}"])
    broken = [f"- {v.group}: {v.name[:80]!a}, `vaekit {v.words[:80]!a}`: {v.problem}" for v in found if v.problem]
    verdict = "All held." if not broken else "Some did not hold:\n\n" + "\n".join(broken)
    about = paragraph(
        f"What hostile files, accidents and full disks do to a command, and what it promises then: a documented "
        f"exit code, at most two lines of error, no traceback; at most {SECONDS} s of processor time (over a file of "
        f"100 MB, while a bar is shown, {LARGE_SECONDS} s) of a machine that counts to a million in Python in 0.06 s; "
        f"{MEMORY / 1e9:g} GB of resident memory beyond what the imports take and {ADDRESSES / 1e9:g} GB of address "
        f"space; inputs that stay as they were, and nothing written elsewhere, read as a pickle or waited for. An "
        f"output that is cut off is the old file or the whole new one, and what was left beside it is gone after the "
        f"next run. Each case is a process of its own; what is damaged, and where, is drawn with the seed."
    )
    head = ["what is hostile", "cases", "held", "longest, s of processor", "most memory, MB"]
    slower = f"{slowness():.1f} times as long as the machine whose seconds these are"
    facts = provenance([seed], Duration=f"{seconds / 60:.0f} minutes", Processor=slower)
    return f"# Attacks\n\n{about}\n\n{facts}\n\n{table(head, rows)}\n\n{verdict}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--few", action="store_true", help="the smallest instances of each kind, for `make test`")
    parser.add_argument("--json", type=Path, help="a file for the verdicts")
    parser.add_argument("--only", default="", help="cases with this in their names or words")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    began, found = time.monotonic(), []
    for verdict in attacked(arguments.few, arguments.only, arguments.seed):
        found.append(verdict)
        if verdict.problem:
            print(f"{verdict.group}: {verdict.name!a}: {verdict.words[:100]!a}: {verdict.problem}", flush=True)
            print(f"    {verdict.stderr.strip()[-300:]!a}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(verdict) for verdict in found]))
    finish(page(found, time.monotonic() - began, arguments.seed), not any(v.problem for v in found), arguments.write)


if __name__ == "__main__":
    main()
