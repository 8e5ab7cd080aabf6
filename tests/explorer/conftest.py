import threading
import time
from contextlib import contextmanager

import pytest

from vaekit.explorer import assets
from vaekit.explorer.server import Explorer, application, listening_socket


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A run on the digits, some of whose dimensions carry something and some nothing."""
    import vaekit
    from vaekit import runs

    path = tmp_path_factory.mktemp("explored") / "run"
    few = ("train.epochs=6", "train.log_every=6", "objective.beta=2")
    vaekit.fit(runs.run("digits", *few).model_copy(update={"run_dir": str(path)}))
    return path


@pytest.fixture(scope="session")
def explorer(folder):
    if not all((assets.FOLDER / name).is_file() for name in (assets.PAGE, assets.SCRIPT, assets.STYLE, assets.RUNTIME)):
        pytest.skip("the page is not built: `make explorer`")
    return Explorer(folder)


@pytest.fixture(scope="session")
def served():
    """Serves an explorer, and gives the port."""
    import uvicorn

    @contextmanager
    def serving(explorer):
        listening = listening_socket(0)
        port = listening.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(application(explorer, port), log_level="critical", lifespan="off", ws="none", http="h11")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(10)
            listening.close()

    return serving
