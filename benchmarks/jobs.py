"""What trained models are used for, each job beside its peers on the same rows; writes docs/jobs.md.

    python benchmarks/jobs.py --write docs/jobs.md

Needs the data sets in $VAEKIT_DATA, and for peers a Python for each file of benchmarks/uses/peers/ (`make jobs` makes
them). What was measured is kept in benchmarks/uses/measured/, one line for each method, case and seed, and a call goes
on from there; `--again` measures anew. Contenders take turns within a seed, each in a process of its own with the same
number of threads.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

from facts import cores, finish, processor, provenance, table
from uses import anomaly, cells, missing, probe, ratings, synthetic
from uses.job import Cell, Job, Measured, Method

HERE = Path(__file__).parent
MEASURED = HERE / "uses" / "measured"
JOBS: dict[str, Job] = {
    job.name: job for job in (missing.JOB, anomaly.JOB, synthetic.JOB, ratings.JOB, cells.JOB, probe.JOB)
}


def kept(job: Job) -> list[Cell]:
    """What was measured before."""
    path = MEASURED / f"{job.name}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [Cell(**json.loads(line)) for line in lines]
    return [cell for cell in cells if cell.method in job.methods and cell.case in job.cases]


def wanted(job: Job, seeds: list[int]) -> Iterator[tuple[str, str, int]]:
    """Case, method and seed of what is to be measured; methods take turns."""
    for seed in seeds:
        for case in job.cases:
            for name, method in job.methods.items():
                if seed in method.seeds_of(case, seeds):
                    yield case, name, seed


def measure(job: Job, case: str, name: str, seed: int, threads: int, peers: Path) -> Cell:
    """Run a method in a process of its own."""
    method = job.methods[name]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [python(method, peers), "-m", "uses.worker", method.call, case, str(seed)]
    done = subprocess.run(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    machine = f"{processor()}, {cores()} cores"
    where = {"date": date.today().isoformat(), "machine": machine, "threads": threads}
    return Cell(job.name, case, name, seed, **found, **where)


def python(method: Method, peers: Path) -> str:
    """The Python that has what a method needs."""
    return str((peers / method.peer / "bin" / "python").absolute()) if method.peer else sys.executable


def names(text: str) -> list[str]:
    """The jobs that a list names, in the page's order."""
    if unknown := set(text.split(",")) - set(JOBS):
        raise argparse.ArgumentTypeError(f"there is no job {', '.join(unknown)}: choose from {', '.join(JOBS)}")
    return [name for name in JOBS if name in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=names, default=list(JOBS), metavar="JOB,JOB", help=f"of {', '.join(JOBS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--cases", default="", metavar="TEXT", help="measure only cases whose names have this in them")
    parser.add_argument("--threads", type=int, default=1, help="of every contender")
    parser.add_argument("--peers", type=Path, default=Path(".jobs-venvs"), help="folder with a venv for each peer")
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--no-measuring", action="store_true", help="only write the page from what was measured")
    parser.add_argument("--write", type=Path, metavar="FILE")
    args = parser.parse_args()
    MEASURED.mkdir(exist_ok=True)
    if not args.no_measuring:
        for job in (JOBS[name] for name in args.only):
            path = MEASURED / f"{job.name}.jsonl"
            if args.again:
                path.unlink(missing_ok=True)
            known = {cell.key for cell in kept(job)}
            for case, name, seed in wanted(job, args.seeds):
                if (case, name, seed) not in known and args.cases in case:
                    cell = measure(job, case, name, seed, args.threads, args.peers)
                    print(f"{job.name}, {case}, seed {seed}, {name}: {json.dumps(cell.numbers)}", flush=True)
                    with path.open("a") as file:
                        file.write(json.dumps(asdict(cell)) + "\n")
    cells = {name: kept(job) for name, job in JOBS.items()}
    sections = {name: JOBS[name].section(Measured(found)) for name, found in cells.items() if found}
    everything = [cell for found in cells.values() for cell in found]
    seeds = sorted({cell.seed for cell in everything})
    facts = provenance(
        seeds,
        Measured=", ".join(sorted({cell.date for cell in everything})),
        On="; ".join(sorted({f"{cell.machine}, {cell.threads} threads" for cell in everything})),
        Errors="standard errors over seeds, which also choose rows and holes",
        Peers="; ".join(sorted(", ".join(path.read_text().split()) for path in (HERE / "uses/peers").glob("*.txt"))),
    )
    floors = [floor for section in sections.values() for floor in section.floors]
    page = ["# What uses of a trained model reach", facts]
    page += [table(["", "measured", "required", ""], [floor.row() for floor in floors]), *map(str, sections.values())]
    finish("\n\n".join(page) + "\n", all(floor.passed for floor in floors), args.write)


if __name__ == "__main__":
    main()
