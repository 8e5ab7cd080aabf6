"""A CSV file with texts in its missing cells: all else is the same bytes, however it is written."""

import gzip
import random

import numpy as np
import pytest

from vaekit.data import DataSpec
from vaekit.data.formats import csv, texts
from vaekit.data.formats.csv import with_texts
from vaekit.data.table import Sizes

CASES = {
    "plain": (b"a,b\n1,\n,2\n", {0: {1: "9"}, 1: {0: "8", 1: "7"}}, b"a,b\n1,9\n8,2\n"),
    "crlf, no last end": (b"a,b\r\n1,\r\n,2", {0: {1: "9"}, 1: {0: "8"}}, b"a,b\r\n1,9\r\n8,2"),
    "question marks in blanks": (b"a, b, c\n1, ?, x\n", {0: {1: "y"}}, b"a, b, c\n1, y, x\n"),
    "a text in quotes goes before the blank": (b"a, b\n1, ?\n", {0: {1: '"y, z"'}}, b'a, b\n1,"y, z"\n'),
    "quotes, and lines within": (
        b'a,b,c\n"x, ""y""\nz",,1\n"NA","",2\n',
        {0: {1: "5"}, 1: {0: "q", 1: "6"}},
        b'a,b,c\n"x, ""y""\nz",5,1\nq,6,2\n',
    ),
    "decimal commas": (b"a;b\n1,50;\n;2,25\n", {0: {1: "3,5"}, 1: {0: "0,1"}}, b"a;b\n1,50;3,5\n0,1;2,25\n"),
    "blank lines are no rows": (b"\na,b\n1,2\n\n3,\n\n", {1: {1: "4"}}, b"\na,b\n1,2\n\n3,4\n\n"),
    "a mark at the beginning": (b"\xef\xbb\xbfa,b\n1,NA\n", {0: {1: "2"}}, b"\xef\xbb\xbfa,b\n1,2\n"),
    "no header": (b"1,\n,2\n", {0: {1: "3"}}, b"1,3\n,2\n"),
}


def filled(path, texts, **settings):
    return b"".join(with_texts(path, DataSpec(source=str(path), **settings), texts))


@pytest.mark.parametrize("case", CASES)
def test_missing_cells_alone_change(tmp_path, case):
    before, texts, after = CASES[case]
    path = tmp_path / "t.csv"
    path.write_bytes(before)
    assert filled(path, texts) == after
    assert filled(path, {}) == before
    assert filled(path, {0: {0: "never"}}).startswith(before[:1])
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(before))
    assert filled(tmp_path / "t.csv.gz", texts) == after


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1", "utf-8"])
def test_a_file_keeps_its_encoding(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path = tmp_path / "t.csv"
    path.write_bytes(f"{mark}é,b\nü,\n".encode(encoding))
    settings = {"encoding": encoding} if encoding == "latin-1" else {}
    assert filled(path, {0: {1: "ö"}}, **settings) == f"{mark}é,b\nü,ö\n".encode(encoding)


def test_a_cell_that_is_there_keeps_what_it_has(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,-999\n2,0\n")
    assert filled(path, {0: {0: "x", 1: "x"}, 1: {1: "x"}}, missing_values=("-999",)) == b"a,b\n1,x\n2,0\n"


POOLS = (
    ("red", " red", "\u2003blue\x85", "NA", " NA ", "", "?", "Ä"),
    ("true", "False", "1", "0", " true", ""),
    ("1,5", "2,25", " 3,0 ", "NaN"),
    ("1,234.5", "12", "-7,000", "+1"),
    ("1.234,5", "1.234", "0,5"),
    ("2020-01-01", "2021-12-31", "12:30", "NA"),
    ("2020-01-01 10:00", "2020-01-01T10:00:00Z", ""),
    ("007", "12", "-", " 3", "0x1F", "n/d"),
    ("1", "2.5", "-", "1e400", "\u0663", "1\n2"),
    ("--", "oops", "1", "2", "3", "4", "5", "6"),
    ("\x1c1\x1f", "2", "\xa03", "\ufeff4", "_5", "1_000"),
)


@pytest.mark.parametrize("seed", range(6))
def test_few_cells_are_read_like_many(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    every = [text for pool in POOLS for text in pool]
    columns = [[*rng.choice(POOLS), *([rng.choice(every)] if rng.random() < 0.3 else [])] for _ in range(25)]
    rows = [[rng.choice(column) for column in columns] for _ in range(rng.choice((4, 30, 90)))]
    path = tmp_path / "t.csv"
    lines = [[f"c{place}" for place in range(25)], *rows]
    path.write_text("".join(";".join(f'"{cell}"' for cell in line) + "\n" for line in lines))
    monkeypatch.setattr(csv, "BLOCK", rng.choice((1 << 11, 1 << 24)))
    spec = DataSpec(source=str(path), decimal=rng.choice((".", ",")), missing_values=rng.choice(((), ("-7", "red"))))
    found = []
    for short in (0, 1 << 20):
        monkeypatch.setattr(csv, "SHORT", short)
        monkeypatch.setattr(texts, "SHORT", short)
        table = csv.open(path, spec, Sizes(1000, 1000, 1 << 30, 1e9))
        found.append((table.columns, table.dialect, table.notices, table.read(0)))
    assert found[0][:3] == found[1][:3]
    assert np.array_equal(found[0][3], found[1][3], equal_nan=True)
