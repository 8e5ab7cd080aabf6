"""What commands write: whole or not at all, never over what is read, and only by --force over what is there."""

import os
import resource
import shlex
import shutil
import signal
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from vaekit.cli.main import main

OLD = b"old"
WRITES = [
    *(("sample {run} -n 40", ending) for ending in ("npy", "npz", "csv", "png")),
    *(("encode {run}", ending) for ending in ("npy", "npz", "csv", "parquet")),
    *(("decode {run} {codes}", ending) for ending in ("npy", "npz", "csv", "png")),
    *(("reconstruct {run}", ending) for ending in ("npy", "npz", "csv", "png")),
    ("report {run} --samples 1", "html"),
    *(("evaluate {run} --samples 2 --per-row", ending) for ending in ("csv", "npz", "parquet")),
]


def command(line: str, out: Path, **names: object) -> str:
    line = line.format(**names)
    return f"{line} {out}" if line.endswith("--per-row") else f"{line} --out {out}"


every_write = pytest.mark.parametrize(("line", "ending"), WRITES)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def codes(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("codes") / "codes.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40, 3)))
    return path


def in_child(line: str, largest: int, action: signal.Handlers) -> int:
    """How a forked process ends that runs a command line and may write files of at most so many bytes."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, action)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        try:
            main(shlex.split(line))
        except SystemExit as leaving:
            os._exit(leaving.code if isinstance(leaving.code, int) else 99)
        os._exit(98)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@every_write
def test_a_writer_that_is_killed_leaves_the_old_file_and_the_next_one_sweeps(
    cli, trained, codes, tmp_path, line, ending
):
    """The signal of a file that grows too large kills like any other, at just that byte."""
    out = tmp_path / f"out.{ending}"
    out.write_bytes(OLD)
    line = f"{command(line, out, run=trained, codes=codes)} --force"
    assert in_child(line, 300, signal.SIG_DFL) == -signal.SIGXFSZ
    assert out.read_bytes() == OLD
    code, _, err = cli(line)
    assert code == 0, err
    assert out.read_bytes() != OLD
    assert not list(tmp_path.glob(".*"))


@every_write
def test_a_writer_without_room_says_so_and_leaves_the_old_file(trained, codes, tmp_path, line, ending, capfd):
    out = tmp_path / f"out.{ending}"
    out.write_bytes(OLD)
    code = in_child(f"{command(line, out, run=trained, codes=codes)} --force", 300, signal.SIG_IGN)
    assert code in (1, 2)  # a report that cannot be written may be elsewhere
    assert out.read_bytes() == OLD
    assert not list(tmp_path.glob(".*"))


@every_write
def test_what_exists_is_replaced_only_by_force(cli, trained, codes, tmp_path, line, ending):
    out = tmp_path / f"out.{ending}"
    out.write_bytes(OLD)
    code, _, err = cli(command(line, out, run=trained, codes=codes))
    assert (code, "--force" in err) == (2, True)
    assert out.read_bytes() == OLD


@pytest.fixture
def own(cli, tmp_path):
    """A run whose data is a file beside it."""
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(60, 4)))
    run = tmp_path / "run"
    assert cli(f"train {tmp_path / 'data.npy'} train.epochs=1 model.latent=2 --run-dir {run}")[0] == 0
    return run


@pytest.mark.parametrize("verb", ["sample {run}", "encode {run}", "reconstruct {run}", "encode {run} {other}"])
def test_data_is_never_replaced_by_whatever_name(cli, own, tmp_path, monkeypatch, verb):
    data, other = tmp_path / "data.npy", tmp_path / "other.npy"
    shutil.copy(data, other)
    (tmp_path / "link.npy").symlink_to(data)
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to(tmp_path)
    os.link(data, tmp_path / "hard.npy")
    monkeypatch.chdir(tmp_path / "folder")
    before = data.read_bytes()
    names = ["../data.npy", "../link.npy", "../hard.npy", "../way/data.npy", str(data)]
    for name in names + (["../other.npy"] if "other" in verb else []):
        code, _, err = cli(f"{verb.format(run=own, other=other)} --force --out {name}")
        assert (code, "which is the data" in " ".join(err.split())) == (2, True), err
    assert data.read_bytes() == before == other.read_bytes()


def test_codes_are_not_replaced_by_what_they_decode_to(cli, trained, codes):
    before = codes.read_bytes()
    code, _, err = cli(f"decode {trained} {codes} --force --out {codes}")
    assert (code, "which is the data" in " ".join(err.split())) == (2, True)
    assert codes.read_bytes() == before


def test_a_folder_of_data_takes_no_outputs(cli, tmp_path):
    from PIL import Image

    pictures = tmp_path / "pictures"
    for name in ("a", "b"):
        (pictures / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(pictures / name / f"{i}.png")
    run = tmp_path / "run"
    code, _, err = cli(f"train {pictures} train.epochs=1 model.latent=2 --run-dir {run}")
    assert code == 0, err
    (tmp_path / "alias").symlink_to(pictures)
    before = sorted(pictures.rglob("*"))
    for folder in (pictures / "run", tmp_path / "alias" / "a" / "run", pictures):
        code, _, err = cli(f"train {pictures} train.epochs=1 model.latent=2 --run-dir {folder}")
        assert (code, "would lie in the data" in err) == (2, True), err
    for out in (pictures / "a" / "0.png", pictures / "new.png", tmp_path / "alias" / "b" / "new.png"):
        assert cli(f"sample {run} --force --out {out}")[0] == 2
    for page in (pictures / "page.html", tmp_path / "pictures.html"):  # the second has its pictures in that folder
        assert cli(f"report {run} --out {page}")[0] == 2
    assert sorted(pictures.rglob("*")) == before


def test_the_files_of_a_run_are_not_for_outputs(cli, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (picture,) = (run / "samples").glob("*0002-samples.png")
    before = picture.read_bytes()
    assert cli(f"sample {run} --force --out {picture}")[0] == 2
    assert cli(f"encode {run} --out {run / 'checkpoints' / 'codes.npy'}")[0] == 2
    assert picture.read_bytes() == before
    assert cli(f"encode {run} --out {run / 'codes.npy'}")[0] == 0, "a new file beside them is no harm"


def test_outputs_that_are_no_files(cli, trained, tmp_path):
    os.mkfifo(tmp_path / "fifo.npy")
    (tmp_path / "null.npy").symlink_to("/dev/null")
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    for name in ("fifo.npy", "null.npy", "loop.npy", f"{'x' * 260}.npy", "no/such.npy", "a\0b.npy"):
        code, _, err = cli(f"encode {trained} --force --out {tmp_path / name}")
        assert code == 2, err
        assert "--out is" in err
    assert cli(f"encode {trained} --force --out /dev/stdout")[0] == 2


@pytest.mark.parametrize("name", ["a [bold]b.npy", "ä ö.npy", "two\nlines.npy", f"{'y' * 251}.npy"])
def test_odd_names_are_written_and_named(cli, trained, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(f"encode {trained} --out {shlex.quote(name)}")
    assert code == 0, err
    assert name in out
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet"])
def test_files_are_what_other_readers_take(cli, trained, tmp_path, ending):
    """Written block by block, and read by NumPy and pyarrow: the same numbers in each."""
    assert cli(f"encode {trained} --out {tmp_path / 'z.npy'}")[0] == 0
    z = np.load(tmp_path / "z.npy")
    out = tmp_path / f"codes.{ending}"
    assert cli(f"encode {trained} --out {out}")[0] == 0
    if ending == "npz":
        with np.load(out) as arrays:
            assert arrays["mean"].dtype == np.float32
            assert np.array_equal(arrays["mean"], z)
    elif ending in ("csv", "parquet"):
        table = csv.read_csv(out) if ending == "csv" else parquet.read_table(out)
        np.testing.assert_allclose(np.stack([table[f"z{i}"] for i in range(3)], 1), z, rtol=1e-6)
    assert z.shape == (180, 3)


def test_more_rows_than_the_disk_holds_are_refused_with_the_number_that_fits(cli, trained, tmp_path):
    for n in (10**12, 10**30):
        for ending in ("npy", "npz", "csv", "png"):
            code, _, err = cli(f"sample {trained} -n {n} --out {tmp_path / 'x'}.{ending}")
            assert (code, "at most" in err) == (2, True), err
    assert not list(tmp_path.iterdir())


class TestCodes:
    """`decode` reads codes with the checks of any data."""

    @pytest.fixture
    def z(self):
        return np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)

    def decoded(self, cli, trained, path):
        out = path.with_name("decoded.npy")
        code, _, err = cli(f"decode {trained} {path} --force --out {out}")
        assert code == 0, err
        return np.load(out)

    def test_columns_are_taken_by_name(self, cli, trained, tmp_path, z):
        np.save(tmp_path / "z.npy", z)
        wanted = self.decoded(cli, trained, tmp_path / "z.npy")
        columns = {"row": np.arange(30), "z2": z[:, 2], "scale0": z[:, 0], "z0": z[:, 0], "z1": z[:, 1]}
        parquet.write_table(pyarrow.table(columns), tmp_path / "z.parquet")
        np.savetxt(tmp_path / "z.csv", z[:, [1, 0, 2]], delimiter=",", header="z1,z0,z2", comments="", fmt="%.9g")
        np.savez(tmp_path / "z.npz", scale=z * 0, mean=z)
        for ending in ("parquet", "csv", "npz"):
            found = self.decoded(cli, trained, tmp_path / f"z.{ending}")
            np.testing.assert_allclose(found, wanted, rtol=1e-5)

    @pytest.mark.parametrize(
        ("names", "part"), [("z0,z1", "lacks z2"), ("z0,z1,z2,z3", "has z3"), ("a,b,c", "lacks z0, z1, z2")]
    )
    def test_columns_that_are_missing_or_too_many_are_named(self, cli, trained, tmp_path, names, part):
        width = len(names.split(","))
        (tmp_path / "z.csv").write_text(f"{names}\n" + f"{','.join(['0.5'] * width)}\n" * 4)
        code, _, err = cli(f"decode {trained} {tmp_path / 'z.csv'} --out {tmp_path / 'x.npy'}")
        assert (code, part in " ".join(err.split())) == (3, True), err

    def test_what_is_no_codes_is_a_data_error(self, cli, trained, tmp_path, z):
        def saved(name: str, array: np.ndarray) -> None:
            np.save(tmp_path / name, array, allow_pickle=True)

        saved("complex.npy", z.astype(np.complex64))
        saved("text.npy", z.astype(str))
        saved("objects.npy", np.array([{}, None]))
        saved("none.npy", z[:0])
        saved("flat.npy", z[0])
        saved("dims.npy", np.zeros((2,) * 20))
        saved("infinite.npy", np.full((3, 3), 1e300))
        np.savez(tmp_path / "two.npz", a=z, b=z)
        np.savez(tmp_path / "complex.npz", mean=z.astype(np.complex64))
        np.savez(tmp_path / "whole.npz", mean=z)
        whole = (tmp_path / "whole.npz").read_bytes()
        size = whole.index(b"PK\x01\x02") + 24
        (tmp_path / "bomb.npz").write_bytes(whole[:size] + (4 * 10**9).to_bytes(4, "little") + whole[size + 4 :])
        (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
        flipped = bytearray(whole)
        flipped[200] ^= 1
        (tmp_path / "flipped.npz").write_bytes(flipped)
        (tmp_path / "encrypted.npz").write_bytes(whole[: size - 16] + b"\x01" + whole[size - 15 :])
        with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
            pass
        for name in ("empty.npy", "empty.csv", "empty.parquet"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "header.csv").write_text("z0,z1,z2\n")
        (tmp_path / "words.csv").write_text("z0,z1,z2\n1,2,x\n")
        (tmp_path / "ragged.csv").write_text("z0,z1,z2\n1,2\n")
        os.mkfifo(tmp_path / "fifo.npy")
        (tmp_path / "whole.npz").unlink()
        for path in sorted(tmp_path.iterdir()):
            code, _, err = cli(f"decode {trained} {path} --out {tmp_path / 'x.npy'}")
            assert code == 3, (path.name, err)
            assert path.name in err.replace("\n", "")
            assert "pickle.load" not in err
            assert "Traceback" not in err


def with_memory_for(line: str, spare: float) -> tuple[int, str]:
    """Exit code and standard error of a command line in a forked process that may take so many bytes more."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(spare), resource.RLIM_INFINITY))
        sys.stderr = os.fdopen(write, "w")
        try:
            main(shlex.split(line))
        except SystemExit as leaving:
            sys.stderr.flush()
            os._exit(leaving.code if isinstance(leaving.code, int) else 99)
        os._exit(98)
    os.close(write)
    with os.fdopen(read) as errors:
        said = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def test_sizes_that_are_known_are_checked_against_free_memory_first(trained, tmp_path):
    code, err = with_memory_for(f"evaluate {trained} --samples 1000000", 300e6)
    assert (code, "at most" in err, "fit" in err) == (2, True, True), err
    line = f"train digits model.encoder.widths=[4000,4000] --run-dir {tmp_path / 'run'}"
    code, err = with_memory_for(line, 300e6)
    assert (code, "needs about" in err) == (2, True), err
    assert not (tmp_path / "run").exists()


def test_many_codes_are_decoded_in_little_memory(trained, tmp_path):
    """200,000 codes become 51 MB of numbers, and there is no room for twice that."""
    np.save(tmp_path / "z.npy", np.zeros((200_000, 3), np.float32))
    code, err = with_memory_for(f"decode {trained} {tmp_path / 'z.npy'} --out {tmp_path / 'x.npy'}", 70e6)
    assert code == 0, err
    assert np.load(tmp_path / "x.npy", mmap_mode="r").shape == (200_000, 1, 8, 8)


def test_data_that_moved_is_found_where_it_is_said_to_be(cli, cli_json, own, tmp_path):
    before = cli_json(f"evaluate {own} --samples 4")
    moved = (tmp_path / "data.npy").rename(tmp_path / "moved.npy")
    np.save(tmp_path / "other.npy", np.zeros((60, 4)) + np.arange(60)[:, None])
    out = tmp_path / "x.npy"
    for line in (
        f"evaluate {own} --samples 4",
        f"encode {own} --out {out}",
        f"sample {own} --from mixture --out {out}",
    ):
        code, _, err = cli(line)
        assert (code, "--data" in err) == (3, True), err
    after = cli_json(f"evaluate {own} --samples 4 --data {moved}")
    for name in ("elbo", "log_likelihood", "baseline"):
        assert after[name] == before[name], "the same rows, of the same split"
    assert cli(f"sample {own} --from mixture --data {tmp_path / 'other.npy'} --out {out}")[0] == 3
    assert cli(f"sample {own} --from mixture --data {moved} --out {out}")[0] == 0
    assert cli_json(f"evaluate {own} --samples 4 --data {tmp_path / 'other.npy'}")["rows"] == 60


@pytest.mark.parametrize("ending", ["csv", "npz", "parquet"])
def test_scores_of_each_row_have_the_printed_means(cli_json, own, tmp_path, ending):
    """In the units of the stored rows, as what is printed."""
    out = tmp_path / f"scores.{ending}"
    printed = cli_json(f"evaluate {own} --samples 4 --split train --per-row {out}")
    if ending == "npz":
        with np.load(out) as arrays:
            table = dict(arrays)
    else:
        found = csv.read_csv(out) if ending == "csv" else parquet.read_table(out)
        table = {name: found[name].to_numpy() for name in found.column_names}
    assert list(table) == ["row", "elbo", "log_likelihood", "rate", "distortion"]
    assert table["row"].tolist() == list(range(printed["rows"]))
    for name in ("elbo", "log_likelihood", "rate", "distortion"):
        assert table[name].mean() == pytest.approx(printed[name]["value"], abs=1e-4)


def test_scores_carry_the_labels(cli, trained, tmp_path):
    assert cli(f"evaluate {trained} --samples 2 --rows 30 --per-row {tmp_path / 's.csv'}")[0] == 0
    table = csv.read_csv(tmp_path / "s.csv")
    assert set(table["label"].to_pylist()) <= set(range(10))
    assert len(table) == 30
    assert cli(f"evaluate {trained} --suite latents --per-row {tmp_path / 't.csv'}")[0] == 2
