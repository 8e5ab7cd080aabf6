"""Whether two versions of vaekit behave alike, to the last bit: weights, metrics, samples, codes and evaluations.

    python benchmarks/behaviour.py --against REVISION
    python benchmarks/behaviour.py --against REVISION --only tutorial,vqvae

Each case is a short seeded training of another kind of model on little data, evaluated, sampled and encoded by the
command line. Both versions run on this machine, one after the other: other processors round otherwise. Weights are
compared by shape and value, so that a parameter may be renamed; whatever depends on a clock is left out, and names
that have changed are taken as the same.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from facts import finish, provenance, table

IMAGES = ("limit.train=400", "limit.valid=100", "train.epochs=2")
NETWORKS = tuple(f"model.{part}={{kind: mlp, widths: [512, 512]}}" for part in ("encoder", "decoder"))
OF_TABLES = (*NETWORKS, "train.epochs=5", "train.patience=null")  # defaults once, written out
REAL = ("data.support=real", "data.scale=standard", "model.likelihood={kind: calibrated_gaussian, per_dimension: true}")
CASES: dict[str, tuple[str, ...]] = {
    "digits": ("digits", "train.epochs=30"),  # long enough to be traced
    "tutorial": ("--preset", "tutorial", *IMAGES),
    "tutorial-score": ("--preset", "tutorial-score", *IMAGES),
    "mnist": ("--preset", "mnist", *IMAGES),
    "mnist-conv": ("--preset", "mnist-conv", *IMAGES),
    "iwae": ("--preset", "iwae", *IMAGES),
    "vamp": ("--preset", "vamp", *IMAGES),
    "factor-vae": ("--preset", "factor-vae", *IMAGES),
    "beta-tcvae": ("--preset", "beta-tcvae", *IMAGES),
    "rae-gp": ("--preset", "rae-gp", *IMAGES),
    "vqvae": ("--preset", "vqvae", *IMAGES),
    "bernoulli-vimco": ("--preset", "bernoulli-vimco", *IMAGES),
    "categorical-vae": ("--preset", "categorical-vae", *IMAGES),
    "svae": ("--preset", "svae", *IMAGES),
    "iaf": ("--preset", "iaf", *IMAGES),
    "conditional": ("--preset", "conditional", *IMAGES),
    "hvae-2level": ("--preset", "hvae-2level", *IMAGES),
    "vdvae": ("--preset", "vdvae", *IMAGES, "limit.train=100", "train.epochs=1"),
    "table": ("{folder}/table.csv", "data.context=[group]", *REAL, *OF_TABLES),
    "counts": ("{folder}/counts.csv", "data.support=count", "model.likelihood=negative_binomial", *OF_TABLES),
}
CLOCK = {"seconds", "rows_per_second"}
RENAMED = {  # names in earlier versions, of settings' values and of metrics, as they are now
    "ladder": "hierarchical",
    "point": "deterministic",
    "standard": "standard_normal",
    "opponent_loss": "discriminator_loss",
}
PINNED = ("train.precision=fp32", "train.compile=off", "train.device=cpu")
IN_ONE_PROCESS = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv = ["vaekit", *words]
    try:
        runpy.run_module("vaekit", run_name="__main__")
    except SystemExit as left:
        if left.code not in (0, None):
            sys.exit(f"vaekit {' '.join(words)}: exit {left.code}")
"""


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 2))
    real = z @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(500, 5))
    group = rng.integers(0, 3, 500)
    counts = rng.poisson(np.exp(z @ rng.normal(size=(2, 4)) / 2 + 2))
    lines = [",".join([*map(repr, row.tolist()), str(g)]) for row, g in zip(real, group, strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,c,d,e,group", *lines, ""]))
    np.savetxt(folder / "counts.csv", counts, "%d", ",", header="p,q,r,s", comments="")


def behaviour(source: Path, case: str, folder: Path) -> dict[str, Any]:
    """What the version of vaekit in `source` does in a case; its files go to `folder`."""
    run = folder / "run"
    words = [word.replace("{folder}", str(folder.parent)) for word in CASES[case]]
    if not (source / "vaekit" / "cli").is_dir():  # a version before the names changed
        words = [in_old_names(word) for word in words]
    calls = [
        ["train", *words, *PINNED, "--run-dir", str(run)],
        ["evaluate", str(run), "--samples", "5", "--rows", "100", "--json"],
        ["sample", str(run), "-n", "20", "--out", str(folder / "samples.npy")],
        ["encode", str(run), "--out", str(folder / "codes.npz")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(calls)],
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{case}: {done.stderr[-3000:]}")
    printed = json.loads(done.stdout[done.stdout.index("\n{") :].partition("\n}")[0] + "\n}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    codes = np.load(folder / "codes.npz")
    (checkpoint,) = {path.parent for path in newest(run).glob("*.safetensors")}
    return {
        "best weights": weights(checkpoint / "best.safetensors"),
        "last weights": weights(checkpoint / "last.safetensors"),
        "metrics": [{renamed(name): value for name, value in line.items() if name not in CLOCK} for line in lines],
        "evaluation": {k: v for k, v in printed.items() if k not in ("run", "provenance")},
        "samples": digest(np.load(folder / "samples.npy")),
        "codes": {name: digest(codes[name]) for name in sorted(codes.files)},
    }


def renamed(metric: str) -> str:
    """A metric's name now, whatever it was called."""
    split, _, name = metric.partition("_")
    return f"{split}_{RENAMED.get(name, name)}" if name else metric


def in_old_names(word: str) -> str:
    """A setting as earlier versions take it."""
    for old, new in RENAMED.items():
        word = re.sub(rf"(kind: |\.kind=|\.(?:posterior|prior)=){new}\b", rf"\g<1>{old}", word)
    return word


def newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def weights(path: Path) -> str:
    """A hash of all weights, whatever their names and order."""
    return digest(*sorted(digest(value) for value in load_file(path).values()))


def digest(*values: Any) -> str:
    found = hashlib.sha256()
    for value in values:
        array = np.ascontiguousarray(value)
        found.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return found.hexdigest()


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The sources of a revision of this repository, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision, "src"], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder) / "src"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", required=True, help="the revision to compare with, as git names it")
    parser.add_argument("--only", default=",".join(CASES), help="some of the cases, with commas")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    arguments = parser.parse_args()
    here, rows, differing = Path(__file__).resolve().parents[1] / "src", [], []
    with checkout(arguments.against) as there, tempfile.TemporaryDirectory() as temporary:
        for case in arguments.only.split(","):
            found = []
            for name, source in (("there", there), ("here", here)):
                folder = Path(temporary) / name / case
                folder.mkdir(parents=True)
                write_data(folder.parent)
                found.append(behaviour(source, case, folder))
            theirs, ours = found
            parts = {part: theirs[part] == ours.get(part) for part in theirs}
            differing += [f"{case}: {part}" for part, alike in parts.items() if not alike]
            for part in (part for part, alike in parts.items() if not alike):
                print(f"{case}: {part} differ\n  there {theirs[part]}\n  here  {ours[part]}"[:2000], file=sys.stderr)
            rows.append(
                (case, ours["last weights"][:12], *("same" if alike else "DIFFERENT" for alike in parts.values()))
            )
            print(case, *rows[-1][2:], file=sys.stderr, flush=True)
    header = ("case", "SHA-256 of the last weights", *parts)
    text = f"# Behaviour against {arguments.against}\n\n{provenance([0])}\n\n{table(header, rows)}\n"
    finish(text, not differing, arguments.write)


if __name__ == "__main__":
    main()
