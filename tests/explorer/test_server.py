import http.client
import json
import random
import socket
import threading
import time

import numpy as np
import pytest

from naming import naming
from vaekit.errors import ConfigError
from vaekit.explorer.server import MOST_BYTES, Explorer, listening_socket


@pytest.fixture(scope="module")
def port(explorer, served):
    with served(explorer) as port:
        yield port


def ask(port, method, path, body=b"", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_page_has_a_strict_policy(port):
    status, headers, body = ask(port, "GET", "/")
    assert status == 200
    assert b'<script src="app.js"' in body
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_decoded_numbers_are_those_of_torch(port, explorer):
    z = np.random.default_rng(0).normal(size=(10, explorer.model.latents)).astype("<f4")
    status, _, body = ask(port, "POST", "/api/decode", z.tobytes(), X_Rows="10")
    assert status == 200
    assert np.array_equal(np.frombuffer(body, "<f4"), explorer.model.decode(z).ravel())


def test_the_bound_is_finite(port, explorer):
    x = np.zeros((1, *explorer.model.shape), "<f4")
    status, _, body = ask(port, "POST", "/api/bound?draws=4&seed=1", x.tobytes())
    found = json.loads(body)
    assert status == 200
    assert found["elbo"] < 0 < found["kl"]
    assert np.shape(found["z"]) == (4, explorer.model.latents)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nothing", b"", {}, 404),
        ("GET", "/../server.py", b"", {}, 404),
        ("GET", "/assets/../../etc/passwd", b"", {}, 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", b"", {}, 404),
        ("DELETE", "/", b"", {}, 405),
        ("GET", "/", b"", {"Host": "evil.example"}, 403),
        ("GET", "/model.json", b"", {"Origin": "http://evil.example"}, 403),
        ("POST", "/api/decode", b"", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/api/decode", b"abc", {"X-Rows": "1"}, 400),
        ("POST", "/api/decode", b"abc", {"X-Rows": "-1"}, 400),
        ("POST", "/api/decode", b"abc", {"X-Rows": "9" * 30}, 400),
        ("POST", "/api/decode", b"abc", {"X-Rows": "1025"}, 400),
        ("POST", "/api/decode", b"abc", {}, 400),
        ("POST", "/api/decode", np.full(16, np.nan, "<f4").tobytes(), {"X-Rows": "1"}, 400),
        ("POST", "/api/bound?draws=0", b"", {}, 400),
        ("POST", "/api/bound?draws=1e9", b"", {}, 400),
        ("POST", "/api/sound", b"\0" * 256, {}, 400),
        ("POST", "/api/encode", b"\0" * (MOST_BYTES + 1), {"X-Rows": "1"}, 413),
        ("GET", "/model.bin?of=99", b"", {}, 409),
    ],
)
def test_bad_requests_are_refused_in_a_line(port, method, path, body, headers, status):
    try:
        found, _, text = ask(port, method, path, body, **headers)
    except (ConnectionResetError, BrokenPipeError):  # refused before all of a large body was sent
        assert status == 413
        return
    assert found == status
    why = json.loads(text)["error"]
    assert why
    assert "\n" not in why


def test_content_length_that_is_no_number_is_refused(port):
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(
            f"POST /api/decode HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: ten\r\n\r\n".encode()
        )
        assert b" 400 " in connection.recv(1000).partition(b"\r\n")[0]


def test_many_bad_requests_at_once_leave_it_working(port, explorer):
    """The same for a minute and with memory measured: `benchmarks/serving.py`."""
    deadline, statuses = time.monotonic() + 2, []

    def attack(seed):
        rng = random.Random(seed)
        while time.monotonic() < deadline:
            body = rng.randbytes(rng.choice([0, 10, 5000]))
            path = rng.choice(
                ["/api/decode", "/api/encode", "/api/bound", "/", "/model.json?" + "a" * rng.choice([1, 9000])]
            )
            try:
                statuses.append(
                    ask(port, rng.choice(["GET", "POST", "PUT"]), path, body, X_Rows=str(rng.randrange(-5, 5)))[0]
                )
            except (OSError, http.client.HTTPException):
                statuses.append(0)

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) > 50
    assert max(statuses) < 500
    test_decoded_numbers_are_those_of_torch(port, explorer)


def test_a_taken_port_is_named(port):
    with pytest.raises(ConfigError, check=naming("port", port)):
        listening_socket(port)


def test_a_run_without_weights_waits(explorer, served, tmp_path):
    (tmp_path / "run.yaml").write_text("")
    with served(Explorer(tmp_path, watch=True)) as waiting:
        status, _, body = ask(waiting, "GET", "/model.json")
    assert status == 202
    assert "no weights are saved yet" in json.loads(body)["waiting"]
