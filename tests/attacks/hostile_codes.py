"""Hostile files of codes, for `vaekit decode`, and of data, for the verbs that use a run."""

import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import Case
from hostile_bytes import Maker, damaged, not_files, sparse, write
from hostile_data import GOOD_OR_DATA, PICTURES, Trap, hostile_csv, lying_npy, lying_npz, npy, npz, parquet

DATA = frozenset({3})
_CODES = np.random.default_rng(0).normal(size=(40, 3))
WHOLE = {
    "z.npy": npy(_CODES),
    "z.npz": npz(mean=_CODES, scale=np.abs(_CODES), label=np.arange(40) % 10),
    "z.csv": b"z0,z1,z2\n" + b"".join(b"%f,%f,%f\n" % tuple(row) for row in _CODES),
    "z.parquet": parquet({f"z{i}": _CODES[:, i] for i in range(3)}),
}


def wrong_codes() -> Iterator[tuple[str, str, Maker]]:
    """Files that are whole, and hold something else than codes of three latents."""
    arrays = {
        "no dimensions": np.array(1.0),
        "no rows": np.zeros((0, 3)),
        "one dimension": np.zeros(3),
        "two latents": np.zeros((4, 2)),
        "three dimensions": np.zeros((4, 3, 1)),
        "complex numbers": np.zeros((4, 3), complex),
        "texts": np.array([["a", "b", "c"]]),
        "texts of numbers": np.array([["1", "2", "3"]]),
        "dates": np.zeros((4, 3), "M8[s]"),
        "NaN": np.full((4, 3), np.nan),
        "an infinite number": np.full((4, 3), np.inf),
        "numbers beyond float32": np.full((4, 3), 1e300),
        "records": np.zeros(4, [("a", "f4"), ("b", "f4"), ("c", "f4")]),
        "pickled objects": np.array([[Trap()] * 3], dtype=object),
    }
    for what, array in arrays.items():
        yield "z.npy", what, write(npy(array))
        yield "z.npz", what, write(npz(mean=array))
    yield "z.npz", "no array of codes", write(npz(a=np.zeros((4, 3)), b=np.zeros((4, 3))))
    yield "z.csv", "other columns", write(b"a,b,c\n1,2,3\n")
    yield "z.csv", "a column twice", write(b"z0,z1,z1\n1,2,3\n")
    yield "z.csv", "a column missing", write(b"z0,z1\n1,2\n")
    yield "z.csv", "words", write(b"z0,z1,z2\na,b,c\n")
    yield "z.csv", "a missing cell", write(b"z0,z1,z2\n1,,3\n")
    yield "z.csv", "a header only", write(b"z0,z1,z2\n")
    yield "z.parquet", "words", write(parquet({"z0": ["a"], "z1": ["b"], "z2": ["c"]}))
    yield "z.parquet", "lists", write(parquet({"z0": [[1.0]], "z1": [[1.0]], "z2": [[1.0]]}))
    yield (
        "z.parquet",
        "a missing cell",
        write(parquet({"z0": pa.array([None, 1.0]), "z1": [1.0, 1.0], "z2": [1.0, 1.0]})),
    )
    yield "z.parquet", "other columns", write(parquet({"a": [1.0], "b": [1.0], "c": [1.0]}))
    yield "z.parquet", "a column missing", write(parquet({"z0": [1.0], "z1": [1.0]}))


def codes_cases(home: Path, rng: random.Random, times: int) -> Iterator[Case]:
    """Every hostile file, given to `decode`; some of them given as data to verbs that use the run in `home`."""

    def make(folder: Path, name: str, form: Maker) -> None:
        shutil.copytree(home / "run", folder / "run")
        form(folder / name)

    def case(group: str, name: str, what: str, form: Maker, codes: frozenset[int]) -> Case:
        words = ["decode", "run", name, "--out", "out.npy"]
        return Case(group, f"{name}, {what}", words, partial(make, name=name, form=form), codes, frozenset({"out.npy"}))

    for name, whole in WHOLE.items():
        for what, content in damaged(whole, rng, times):
            yield case("codes damaged", name, what, write(content), GOOD_OR_DATA)
    for name, what, form in wrong_codes():
        yield case("codes of another kind", name, what, form, DATA)
    for name in WHOLE:
        for what, form in {**not_files(), "10 GB of zeros": sparse}.items():
            yield case("codes that are not a file", name, what, form, DATA)
    for name, what, form in (*lying_npy(), *lying_npz(), *hostile_csv(large=False)):
        if times > 2 or rng.random() < 0.1:
            end = name.rpartition(".")[2]
            yield case("codes made to harm", f"z.{end}", what, form, GOOD_OR_DATA)
    pictures = {"a.npy": npy(PICTURES % 17), "a.npz": npz(X=PICTURES % 17)}
    for name, whole in pictures.items():
        for what, content in damaged(whole, rng, times):
            for words in (
                ["encode", "run", name, "--out", "out.npy"],
                ["evaluate", "run", "--samples", "2", "--data", name],
            ):
                form = partial(make, name=name, form=write(content))
                yield Case(
                    "data for a run damaged", f"{name}, {what}", words, form, GOOD_OR_DATA, frozenset({"out.npy"})
                )
