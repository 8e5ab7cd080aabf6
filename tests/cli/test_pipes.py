"""Tables through pipes: `-` is standard input or output."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROWS = load_digits().data[:7].astype(int)
TABLE = "\n".join([",".join(f"p{i}" for i in range(64)), *(",".join(map(str, row)) for row in ROWS)]) + "\n"


@pytest.fixture
def stdin(monkeypatch):
    def give(content: bytes, is_terminal: bool = False) -> None:
        given = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: is_terminal)
        monkeypatch.setattr(sys, "stdin", given)

    return give


@pytest.fixture
def images(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS.reshape(-1, 8, 8).astype(np.uint8))
    return tmp_path / "rows.npy"


@pytest.mark.parametrize("verb", ["sample {run} -n 5", "reconstruct {run} {images}", "encode {run} {images}"])
def test_what_goes_to_stdout_is_what_a_file_would_hold_and_nothing_else(cli, trained, images, tmp_path, verb):
    line = verb.format(run=trained, images=images)
    assert cli(f"{line} --out {tmp_path / 'out.csv'}")[0] == 0
    code, out, err = cli(f"{line} --out -")
    assert (code, err) == (0, "")
    assert out == (tmp_path / "out.csv").read_text()


def test_codes_go_through_a_pipe_and_back(cli, trained, images, stdin, tmp_path):
    _, codes, _ = cli(f"encode {trained} {images} --out -")
    stdin(codes.encode())
    code, _, err = cli(f"decode {trained} - --out {tmp_path / 'decoded.npy'}")
    assert code == 0, err
    assert np.load(tmp_path / "decoded.npy").shape == (7, 1, 8, 8)


def test_a_table_on_stdin_is_encoded(cli, table_run, stdin, tmp_path):
    (tmp_path / "new.csv").write_text("a,b\n1.5,2\n0.5,-1\n")
    stdin((tmp_path / "new.csv").read_bytes())
    _, from_file, _ = cli(f"encode {table_run} {tmp_path / 'new.csv'} --out -")
    code, out, err = cli(f"encode {table_run} - --out -")
    assert code == 0, err
    assert out == from_file
    assert len(out.splitlines()) == 3


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    from vaekit.cli.main import main

    home = tmp_path_factory.mktemp("table")
    a = np.random.default_rng(0).normal(size=(80, 2))
    np.savetxt(home / "t.csv", a, delimiter=",", header="a,b", comments="", fmt="%.5f")
    words = ["train.epochs=1", "model.latent=2", "model.encoder.widths=[8]", "model.decoder.widths=[8]"]
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(home / "t.csv"), *words, "--run-dir", str(home / "run")])
    assert leaving.value.code == 0
    return home / "run"


@pytest.mark.parametrize(
    ("line", "content", "code", "said"),
    [
        ("encode {run} - --out -", b"", 3, "stdin.csv"),
        ("encode {run} - --out -", b"\xff\xfe,\x00\n1,2\n", 3, "stdin.csv"),
        ("encode {run} - --out -", None, 2, "terminal"),
        ("encode {run} --out - --json", b"", 2, "--json"),
        ("decode {run} - --out -", b"z0\n1\n", 3, "z1"),
        ("train -", b"a,b\n1,2\n", 3, "DATA is -"),
    ],
)
def test_pipes_that_cannot_be_worked_on(cli, table_run, stdin, line, content, code, said):
    stdin(content or b"", is_terminal=content is None)
    found, out, err = cli(line.format(run=table_run))
    assert found == code, err
    assert out == ""
    assert said in err
    assert len(err.splitlines()) <= 2
