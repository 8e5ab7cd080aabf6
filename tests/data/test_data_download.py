"""Downloads are whole and verified or leave nothing behind; named sets are looked for before they are fetched."""

import gzip
import hashlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from naming import naming
from vaekit.data import Limit, names, where
from vaekit.data.named import catalogue as named
from vaekit.data.named.download import fetch
from vaekit.data.open import open_table
from vaekit.data.spec import DataSpec
from vaekit.errors import DataError

BODY = np.random.default_rng(0).bytes(100_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    requested: list[str]

    def do_GET(self):
        self.requested.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "slow":
            time.sleep(0.6)
        if self.path not in self.files:
            self.send_error(404)
            return
        body = self.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (1000 if kind == "truncated" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Here", (Handler,), {"files": {}, "requested": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def serve(server: ThreadingHTTPServer, path: str, body: bytes = BODY) -> str:
    server.RequestHandlerClass.files[path] = body
    return f"http://127.0.0.1:{server.server_port}{path}"


def requested(server: ThreadingHTTPServer) -> list[str]:
    return server.RequestHandlerClass.requested


def refused(url: str, folder: Path, *parts: str, sha256: str = SHA256, timeout: float = 5.0) -> None:
    with pytest.raises(DataError) as caught:
        fetch(url, sha256, folder, timeout=timeout)
    for part in (url, *parts, f"$VAEKIT_DATA/{folder.name}/", "`digits`, which needs no network"):
        assert part in str(caught.value)
    assert not folder.is_dir() or list(folder.iterdir()) == []


def test_good(server, tmp_path, capfd, caplog):
    url = serve(server, "/good/file.gz")
    level = pooch.get_logger().level
    with caplog.at_level(logging.DEBUG):
        path = fetch(url, SHA256, tmp_path / "set")
        assert path == tmp_path / "set" / "file.gz"
        assert path.read_bytes() == BODY
        assert fetch(url, SHA256, tmp_path / "set") == path
    assert requested(server) == ["/good/file.gz"]
    assert [file.name for file in path.parent.iterdir()] == ["file.gz"]
    assert capfd.readouterr() == ("", "")
    assert pooch.get_logger().level == level


def test_damaged_copy_is_fetched_anew(server, tmp_path):
    (tmp_path / "file.gz").write_bytes(BODY[:-1])
    path = fetch(serve(server, "/good/file.gz"), SHA256, tmp_path)
    assert path.read_bytes() == BODY


def test_damaged_copy_stays_out_of_use_when_the_network_is_down(tmp_path):
    (tmp_path / "file.gz").write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="refused"):
        fetch(f"http://127.0.0.1:{closed_port()}/file.gz", SHA256, tmp_path)


def test_truncated(server, tmp_path):
    refused(serve(server, "/truncated/file.gz"), tmp_path / "set", "connection broke before the whole file had come")


def test_wrong_checksum(server, tmp_path):
    refused(serve(server, "/good/file.gz", BODY[:-1]), tmp_path / "set", "SHA-256", SHA256)


def test_not_found(server, tmp_path):
    refused(f"http://127.0.0.1:{server.server_port}/no/file.gz", tmp_path / "set", "404")


def test_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    refused(f"http://127.0.0.1:{closed_port()}/file.gz", tmp_path / "set", "connection was refused")


def test_timeout(server, tmp_path):
    refused(serve(server, "/slow/file.gz"), tmp_path / "set", "nothing for 0.1 seconds", timeout=0.1)


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    refused(serve(server, "/good/file.gz"), tmp_path / "file" / "set", "cannot be written")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Named sets.


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def tiny(rows: int, tests: int) -> dict[str, bytes]:
    """The four files of a set that is like MNIST, only smaller."""
    draw = np.random.default_rng(0).integers
    arrays = (draw(0, 256, (rows, 28, 28)), np.arange(rows) % 10, draw(0, 256, (tests, 28, 28)), np.arange(tests) % 10)
    return dict(zip(named._SHA256["mnist"], map(idx, arrays), strict=True))


@pytest.fixture
def homes(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A user's data folder and cache, both empty."""
    monkeypatch.setenv("VAEKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(named.platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    return tmp_path / "data" / "mnist", tmp_path / "cache" / "mnist"


def publish(server, monkeypatch, files: dict[str, bytes]) -> None:
    urls = [serve(server, f"/mnist/{name}", body) for name, body in files.items()]
    here = named.Named("", named.NAMED["mnist"].load, urls[0].rsplit("/", 1)[0] + "/")
    monkeypatch.setitem(named.NAMED, "mnist", here)
    sums = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    monkeypatch.setitem(named._SHA256, "mnist", sums)


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)


def test_digits_are_bundled():
    source = open_table(DataSpec(source="digits"), Limit())
    assert source.whole().shape == (1797, 1, 8, 8)
    assert (source.whole().dtype, source.whole().max()) == (np.uint8, 16)
    assert str(source.stored) == "17 levels (0 to 16)"
    assert source.test_rows == 0
    assert where("digits") == "bundled"


def test_names_are_described():
    assert list(names()) == ["digits", "sprites", "mnist", "fashion-mnist"]
    assert all(names().values())


@pytest.mark.parametrize(
    ("name", "guess"), [("minst", "mnist"), ("MNIST", "mnist"), ("digit", "digits"), ("zzz", None)]
)
def test_unknown_names(name, guess):
    with pytest.raises(DataError, check=naming("DataSpec.source", name)) as caught:
        open_table(DataSpec(source=name), Limit())
    assert ("did you mean" in str(caught.value)) == (guess is not None)
    for part in (name, guess or "", "digits, sprites, mnist, fashion-mnist", "a path must exist"):
        assert part in str(caught.value)
    with pytest.raises(DataError, check=naming("name", name)):
        where(name)


def test_user_folder_first_then_cache_then_network(server, homes, monkeypatch):
    own, cache = homes
    files = tiny(6, 4)
    publish(server, monkeypatch, files)
    assert where("mnist") == f"not here: would be downloaded from {named.NAMED['mnist'].url}"

    source = open_table(DataSpec(source="mnist"), Limit())
    assert (source.train_rows, source.test_rows, source.whole().shape) == (6, 4, (10, 1, 28, 28))
    assert len(requested(server)) == 4
    assert where("mnist") == f"found in {cache}"

    open_table(DataSpec(source="mnist"), Limit())
    assert len(requested(server)) == 4

    put(own, tiny(5, 3))
    assert open_table(DataSpec(source="mnist"), Limit()).train_rows == 5
    assert where("mnist") == f"found in {own}"
    assert len(requested(server)) == 4


def test_unpacked_files_are_found_too(homes):
    files = {name.removesuffix(".gz"): gzip.decompress(body) for name, body in tiny(5, 3).items()}
    put(homes[0], files)
    assert open_table(DataSpec(source="mnist"), Limit()).test_rows == 3


def test_damaged_cache_is_mended(server, homes, monkeypatch):
    files = tiny(6, 4)
    publish(server, monkeypatch, files)
    name = next(iter(files))
    put(homes[1], files | {name: files[name][:-3]})
    assert open_table(DataSpec(source="mnist"), Limit()).train_rows == 6
    assert requested(server) == [f"/mnist/{name}"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({0: idx(np.zeros((5, 28, 28)))[:-9]}, "truncated"),
        ({0: idx(np.zeros((4, 28, 28)))}, "(4, 28, 28)"),
        ({2: idx(np.zeros((3, 27, 28)))}, "(3, 27, 28)"),
        ({1: idx(np.zeros((5, 1)))}, "(5, 1)"),
        ({1: idx(np.full(5, 10))}, "0 to 9"),
        ({0: b"PK\3\4"}, "not an IDX file"),
    ],
)
def test_wrong_files_in_the_user_folder(homes, change, part):
    files = tiny(5, 3)
    put(homes[0], files | {list(files)[place]: body for place, body in change.items()})
    with pytest.raises(DataError) as caught:
        open_table(DataSpec(source="mnist"), Limit())
    assert part in str(caught.value)
    assert str(homes[0]) in str(caught.value)
