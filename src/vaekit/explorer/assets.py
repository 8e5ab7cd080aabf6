"""The page as it is built from `front/`: its markup, script, style and onnxruntime's WebAssembly."""

from functools import cache
from pathlib import Path

from vaekit.errors import ConfigError

FOLDER = Path(__file__).with_name("assets")
PAGE, SCRIPT, STYLE, RUNTIME = "index.html", "app.js", "app.css", "ort.wasm.zst"


def check_built() -> None:
    """Refuse to go on without the page.

    Raises:
        ConfigError: It is not there, as in a checkout where it was not built.
    """
    missing = [name for name in (PAGE, SCRIPT, STYLE, RUNTIME) if not (FOLDER / name).is_file()]
    if missing:
        raise ConfigError(
            f"the explorer's page is not built ({missing[0]} is missing in {FOLDER}): `make explorer` builds it in a "
            "checkout, and wheels have it"
        )


@cache
def read(name: str) -> bytes:
    """A file of the page."""
    return (FOLDER / name).read_bytes()
