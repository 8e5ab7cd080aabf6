"""The page on this machine alone: `vaekit explore` answers the browser with the model in torch."""

import asyncio
import json
import math
import socket
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.errors import ConfigError, VaekitError
from vaekit.explorer import assets
from vaekit.explorer.contents import POINTS, Contents, collect, training_facts
from vaekit.explorer.page import served_page
from vaekit.explorer.stored_model import StoredModel
from vaekit.runs import TrainedRun, open_run
from vaekit.training import RunFolder

HOST = "127.0.0.1"
MOST_BYTES = 8_000_000  # of a request
MOST_ROWS, MOST_SAMPLES = 1024, 1000  # of one request
SECONDS = 10  # for a request to arrive
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_JSON = "application/json"
_TYPES = {
    "": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
}


class Refused(Exception):
    """A request that is not answered, with the status and a line that say why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


@dataclass
class Explorer:
    """A run, as the page asks for it; of one that is still trained, the weights that were saved last.

    Args:
        folder: The run folder.
        weights: Best or last; by default what the run's settings say, and the last of a run that is still trained.
        points: Test rows on the map, at most.
        watch: Whether to look for newer weights and metrics.

    Raises:
        ModelFileError: The folder is not a run's, or its files are damaged.
    """

    folder: Path
    weights: str | None = None
    points: int = POINTS
    watch: bool = False

    def __post_init__(self) -> None:
        self.home = RunFolder(self.folder)
        self._number, self._step = 0, -1
        if not self.watch:
            self._open()

    def _open(self) -> None:
        self._step = self._saved()
        weights = "last" if self.watch and self.weights is None else self.weights
        self.trained: TrainedRun = open_run(self.folder, weights)
        self.model = StoredModel(self.trained)
        self.contents: Contents = collect(self.trained, self.points, self.model)
        self._number += 1

    def state(self) -> dict[str, Any]:
        """How far training is, and the version of what the page should show."""
        status = self.home.status()
        if not self.watch:
            return {"version": "", "status": status, "epoch": 0, "step": 0}
        history = self.home.history()
        last = history[-1] if history else {}
        version = f"{self._saved()}-{len(history)}-{status}"
        return {"version": version, "status": status, "epoch": last.get("epoch", 0), "step": last.get("step", 0)}

    def facts(self) -> dict[str, Any]:
        """What `model.json` holds; of a run that is watched, with the newest weights and curves.

        Raises:
            Refused: No weights are saved yet.
        """
        state = self.state()
        if self.watch and self._saved() not in (-1, self._step):
            self._open()
        if self._number == 0:
            raise Refused(202, f"{state['status'] or 'training'}: no weights are saved yet")
        found = self.contents.facts | {"bin": f"model.bin?of={self._number}", "version": state["version"]}
        if not self.watch:
            return found
        going_on = not state["status"].startswith(("finished", "failed", "interrupted"))
        return found | training_facts(self.trained) | {"watching": going_on}

    def arrays(self, number: str) -> bytes:
        """What `model.bin` holds.

        Raises:
            Refused: These are not the arrays of what was shown last.
        """
        if number not in ("", str(self._number)):
            raise Refused(409, "the run has newer weights: ask for model.json again")
        return self.contents.arrays

    def decode(self, body: bytes, rows: int) -> bytes:
        """Means of p(x|z), of z and context."""
        z, context = self._split(body, rows, self.model.latents, np.dtype("<f4"), "z")
        return _little(self.model.decode(z, context))

    def encode(self, body: bytes, rows: int) -> bytes:
        """Means, then standard deviations of q(z|x), of x and context."""
        x, context = self._x(body, rows)
        return b"".join(map(_little, self.model.encode(x, context)))

    def bound(self, body: bytes, samples: int, seed: int) -> dict[str, Any]:
        """The ELBO of a row and its terms: see `Bound`."""
        x, context = self._x(body, 1)
        found = self.model.bound(x, samples, seed, context)
        numbers = {name: getattr(found, name) for name in ("elbo", "error", "log_likelihood", "kl")}
        finite = {name: v if v is not None and math.isfinite(v) else None for name, v in numbers.items()}
        return finite | {"z": np.nan_to_num(found.z).tolist()}

    def sound(self, body: bytes) -> bytes:
        """A wav file of features."""
        x, _ = self._split(body, 1, math.prod(self.model.shape), self.model.dtype, "x", context=False)
        return self.model.sound(x.reshape(1, *self.model.shape))

    def _x(self, body: bytes, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
        x, context = self._split(body, rows, math.prod(self.model.shape), self.model.dtype, "x")
        return x.reshape(rows, *self.model.shape), context

    def _split(
        self, body: bytes, rows: int, width: int, dtype: np.dtype, name: str, context: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows and their context, from bytes."""
        beside = self.model.width if context else 0
        size, wanted = rows * width * dtype.itemsize, rows * (width * dtype.itemsize + beside * 8)
        if len(body) != wanted:
            what = f"{name} ({rows}, {width}) {dtype}" + (f" and context ({rows}, {beside}) float64" if beside else "")
            raise Refused(400, f"the body has {len(body)} bytes, and {what} has {wanted}")
        found = np.frombuffer(body, dtype, rows * width).reshape(rows, width)
        if name == "z" and not np.isfinite(found).all():
            raise Refused(400, "z has numbers that are not finite")
        given = np.frombuffer(body, np.dtype("<f8"), rows * beside, size).reshape(rows, beside) if beside else None
        return found.astype(dtype.newbyteorder("=")), None if given is None else given.astype(np.float64)

    def _saved(self) -> int:
        return self.home.checkpoints.newest_step() or -1


def application(explorer: Explorer, port: int) -> Any:
    """The ASGI application: the page, what it shows, and the model's answers."""
    from fastapi import FastAPI, Request, Response
    from fastapi.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    served = {"": served_page(), "app.js": assets.read(assets.SCRIPT), "app.css": assets.read(assets.STYLE)}
    model = asyncio.Lock()  # one request at a time is computed, the others wait

    async def computed(work: Callable[..., Any], *arguments: Any) -> Any:
        async with model:
            try:
                return await run_in_threadpool(work, *arguments)
            except VaekitError as error:
                raise Refused(400, str(error)) from None

    async def body_of(request: Request) -> bytes:
        """The body, of at most so many bytes in so many seconds."""
        parts, size = list[bytes](), 0
        try:
            async with asyncio.timeout(SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > MOST_BYTES:
                        raise Refused(413, f"a request has at most {MOST_BYTES:,} bytes")
                    parts += [part]
        except TimeoutError:
            raise Refused(408, f"the request did not arrive within {SECONDS} s") from None
        return b"".join(parts)

    def refusal(status: int, why: str) -> Response:
        return Response(json.dumps({"waiting" if status == 202 else "error": why}), status, _HEADERS, _JSON)

    def answer(content: Any, kind: str = "application/octet-stream") -> Response:
        return Response(content, 200, _HEADERS, kind)

    def as_json(found: Any) -> Response:
        return answer(json.dumps(found, allow_nan=False), _JSON)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return refusal(error.status, str(error))

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, str(error.detail).lower())

    @app.middleware("http")
    async def check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer nobody but this machine's browser, on the page itself."""
        hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        origin = request.headers.get("origin")
        if request.headers.get("host") not in hosts:
            return refusal(403, f"this page is at http://{HOST}:{port} and nowhere else")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            return refusal(403, "another site's page asks for this")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return refusal(403, "another site's page asks for this")
        if int(request.headers.get("content-length", "0")) > MOST_BYTES:
            return refusal(413, f"a request has at most {MOST_BYTES:,} bytes")
        return await go_on(request)

    @app.get("/")
    @app.get("/app.js")
    @app.get("/app.css")
    async def page(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return answer(served[name], _TYPES[name])

    @app.get("/model.json")
    async def facts() -> Response:
        return as_json(await computed(explorer.facts))

    @app.get("/model.bin")
    async def arrays(request: Request) -> Response:
        return answer(await computed(explorer.arrays, request.query_params.get("of", "")))

    @app.get("/api/state")
    async def state() -> Response:
        return as_json(await run_in_threadpool(explorer.state))

    @app.post("/api/decode")
    async def decode(request: Request) -> Response:
        return answer(await computed(explorer.decode, await body_of(request), _rows(request.headers)))

    @app.post("/api/encode")
    async def encode(request: Request) -> Response:
        return answer(await computed(explorer.encode, await body_of(request), _rows(request.headers)))

    @app.post("/api/bound")
    async def bound(request: Request) -> Response:
        samples = _whole(request.query_params.get("draws", "64"), 1, MOST_SAMPLES, "draws")
        seed = _whole(request.query_params.get("seed", "0"), 0, 2**31, "seed")
        return as_json(await computed(explorer.bound, await body_of(request), samples, seed))

    @app.post("/api/sound")
    async def sound(request: Request) -> Response:
        return answer(await computed(explorer.sound, await body_of(request)), "audio/wav")

    return app


def serve(explorer: Explorer, port: int = 0, *, browser: bool = True, ready: Callable[[str], object] = print) -> None:
    """Answer the browser until the process is interrupted.

    Args:
        explorer: The run.
        port: On 127.0.0.1; 0 takes a free one.
        browser: Open the page in the user's browser.
        ready: Called with the page's address when it answers.

    Raises:
        ConfigError: The extra `explorer` is not installed, the page is not built, or the port is taken.
    """
    check_ready()
    import uvicorn

    with closing(listening_socket(port)) as listening:
        port = listening.getsockname()[1]
        address = f"http://{HOST}:{port}/"
        config = uvicorn.Config(
            application(explorer, port),
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=SECONDS,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16_384,
            http="h11",
            ws="none",
            lifespan="off",
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                ready(address)
                if browser:
                    await asyncio.to_thread(webbrowser.open, address)

        Server(config).run(sockets=[listening])


def check_ready() -> None:
    """Refuse to go on without the page, or the packages that serve it.

    Raises:
        ConfigError: One of them is not installed, or the page is not built.
    """
    assets.check_built()
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"the explorer is served by the package {error.name}, which is not installed: pip install "
            "'vaekit[explorer]'"
        ) from None


def listening_socket(port: int) -> socket.socket:
    """A socket on this machine's loopback alone.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: The port is taken, or not one that a user may have.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(
            f"port {port} cannot be used: {getattr(error, 'strerror', None) or error}; give another, or 0 for a free "
            "one",
            field="port",
            value=port,
        ) from None
    return listening


def _rows(headers: Any) -> int:
    return _whole(headers.get("x-rows", ""), 1, MOST_ROWS, "X-Rows")


def _whole(text: str, least: int, most: int, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most):
        raise Refused(400, f"{name} is {text[:20]!r}: it should be a whole number from {least} to {most}")
    return int(text)


def _little(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
