"""The data sets that have a name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from vaekit.data.columns import nearest
from vaekit.data.formats.idx import read_idx
from vaekit.data.named.sprites import sprites
from vaekit.data.schema import Levels
from vaekit.data.table import Table
from vaekit.errors import DataError


@dataclass(frozen=True)
class Named:
    """A data set that has a name: one line about it, how to load it, and where its files are published."""

    about: str
    load: Callable[[], Table]
    url: str | None = None


def names() -> dict[str, str]:
    """Every data set that has a name, with one line about it."""
    return {name: known.about for name, known in NAMED.items()}


def where(name: str) -> str:
    """Where a named data set is now: bundled, found in a folder, or still to be downloaded."""
    if name not in NAMED:
        raise DataError(
            f"no data is named {name!r}{nearest(name, NAMED)}; names are {', '.join(NAMED)}.", field="name", value=name
        )
    url = NAMED[name].url
    if url is None:
        return "bundled"
    found = [_found(name, file) or _cache(name) / file for file in _SHA256[name]]
    if not all(path.is_file() for path in found):
        return f"not here: would be downloaded from {url}"
    return f"found in {' and '.join(dict.fromkeys(str(path.parent) for path in found))}"


def _digits() -> Table:
    package = find_spec("sklearn")
    folder = Path(package.origin).parent if package and package.origin else Path()
    try:  # its file in scikit-learn, which takes seconds to import
        rows = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.int64)
    except FileNotFoundError:
        from sklearn.datasets import load_digits

        found: Any = load_digits()
        rows = np.column_stack([found.data, found.target]).astype(np.int64)
    return Table.of(
        name="digits",
        values=rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8),
        labels=rows[:, -1],
        classes=_DIGITS,
        stored=Levels(17),
    )


def _like_mnist(name: str, classes: tuple[str, ...]) -> Table:
    paths = [_found(name, file) or _fetched(name, file) for file in _SHA256[name]]
    images, labels, test_images, test_labels = arrays = [read_idx(path) for path in paths]
    rows = (len(images), len(labels), len(test_images), len(test_labels))
    shapes = [array.shape[1:] for array in arrays]
    if rows[::2] != rows[1::2] or shapes != [(28, 28), (), (28, 28), ()] or any(a.dtype != "u1" for a in arrays):
        raise DataError(
            f"{paths[0].parent} does not hold {name}: its files have the shapes "
            f"{', '.join(str(array.shape) for array in arrays)}; (n, 28, 28), (n,), (m, 28, 28), (m,) of bytes "
            "are needed."
        )
    all_labels = np.concatenate([labels, test_labels]).astype(np.int64)
    if all_labels.size == 0 or all_labels.max() >= len(classes):
        raise DataError(f"{paths[1]} does not hold labels of {name}: they must be 0 to {len(classes) - 1}.")
    return Table.of(
        name=name,
        values=np.concatenate([images, test_images])[:, None],
        labels=all_labels,
        test_rows=len(test_images),
        classes=classes,
        stored=Levels(256),
    )


def _found(name: str, file: str) -> Path | None:
    """The user's own copy of a file, gzipped or not."""
    folder = os.environ.get("VAEKIT_DATA")
    if not folder:
        return None
    paths = [Path(folder).expanduser() / name / kind for kind in (file, file.removesuffix(".gz"))]
    return next((path for path in paths if path.is_file()), None)


def _fetched(name: str, file: str) -> Path:
    from vaekit.data.named.download import fetch  # requests takes a while to import

    return fetch(f"{NAMED[name].url}{file}", _SHA256[name][file], _cache(name))


def _cache(name: str) -> Path:
    return platformdirs.user_cache_path("vaekit", appauthor=False) / name


_DIGITS = tuple(str(digit) for digit in range(10))
_CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}
NAMED = {
    "digits": Named("1797 handwritten digits, 8x8, 17 grey levels; needs no network", _digits),
    "sprites": Named("17280 squares, ellipses and hearts, 32x32, of known factors; needs no network", sprites),
    "mnist": Named(
        "60000 + 10000 handwritten digits, 28x28, 256 grey levels",
        partial(_like_mnist, "mnist", _DIGITS),
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    "fashion-mnist": Named(
        "60000 + 10000 pictures of clothes, 28x28, 256 grey levels",
        partial(_like_mnist, "fashion-mnist", _CLOTHES),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
}
