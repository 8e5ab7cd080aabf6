"""Speed of training and evaluation against pythae, JAX and what the machine allows. Writes into docs/performance.md.

    python benchmarks/performance.py --write docs/performance.md

Needs MNIST in $VAEKIT_DATA, and a Python with benchmarks/speed/peers.txt installed (`make bench` makes one). Takes
about half an hour.
"""

import argparse
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import torch

from facts import cores, processor, provenance, put_into, table
from sections import Section
from speed.evaluating import encode, iwae, sample
from speed.gpu import gpu
from speed.rounds import Bench
from speed.starting import start, target, tutorial
from speed.training import before, conv, processes, train

PARTS: dict[str, Callable[[Bench], Section]] = {
    "train": train,
    "conv": conv,
    "tutorial": tutorial,
    "start": start,
    "target": target,
    "iwae": iwae,
    "encode": encode,
    "sample": sample,
    "processes": processes,
    "before": before,
}
STANDARD = [name for name in PARTS if name != "before"]  # which needs another checkout
PLAIN = ("train.compile=off", "train.precision=fp32")
PEERS = Path(__file__).with_name("speed") / "peers.txt"


def head(arguments: argparse.Namespace, sections: list[Section]) -> str:
    """Where the numbers come from, and the floors that they are compared with."""
    threads = torch.get_num_threads()
    on_gpu = f", and one {torch.cuda.get_device_name()} where it says so" if torch.cuda.is_available() else ", no GPU"
    facts = provenance(
        [0],
        Machine=f"{processor()}, {cores()} cores, {threads} threads{on_gpu}",
        Command=f"`{command(arguments)}`",
        Peers=", ".join(PEERS.read_text().split()),
        Rounds=f"{arguments.rounds} that count, after one to warm up; contenders take turns within each",
    )
    floors = [floor for section in sections for floor in section.floors]
    shown = [table(["floor", "measured", "required", ""], [floor.row() for floor in floors])] if floors else []
    return "\n\n".join([facts, *shown])


def command(arguments: argparse.Namespace) -> str:
    """What gives this page again, on any machine."""
    words = ["python", "benchmarks/performance.py", "--rounds", str(arguments.rounds)]
    if arguments.only != STANDARD:
        words += ["--only", ",".join(arguments.only)]
    return shlex.join(words + ["--quick"] * arguments.quick)


def parts(text: str) -> list[str]:
    """The parts that a list names, in the page's order."""
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(".bench-venv/bin/python"), help="Python with JAX and pythae")
    parser.add_argument("--only", type=parts, default=STANDARD, metavar="PART,PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=6, help="that count")
    parser.add_argument("--quick", action="store_true", help="few steps: to see that it works, not to measure")
    parser.add_argument("--target", type=float, default=-108.0, metavar="ELBO", help="to reach, in nats")
    parser.add_argument("--plain", nargs="*", default=PLAIN, metavar="SETTING", help="of vaekit without compiling")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="of another version, for the part 'before'")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the result between its marks there")
    arguments = parser.parse_args()
    if "VAEKIT_DATA" not in os.environ:
        parser.error("set VAEKIT_DATA to a folder with mnist/ in it")
    if not arguments.peers.exists() and arguments.only != ["before"]:
        parser.error(f"{arguments.peers} is not there: `make bench` makes it, or name another with --peers")
    bench = Bench(
        arguments.peers, arguments.rounds, arguments.quick, tuple(arguments.plain), arguments.target, arguments.before
    )
    chosen = [PARTS[name] for name in arguments.only] + [gpu] * torch.cuda.is_available()
    sections = []
    for part in chosen:
        sections += [part(bench)]
        print(f"{sections[-1]}\n", flush=True)
    top = head(arguments, sections)
    print(top)
    if arguments.write:
        put_into(arguments.write, "benchmarks/performance.py", "\n\n".join([top, *map(str, sections)]))
    raise SystemExit(0 if all(floor.passed for section in sections for floor in section.floors) else 1)


if __name__ == "__main__":
    main()
