"""One pass over data on disk: cells are checked, support and fingerprint found, and some rows kept in memory."""

from dataclasses import dataclass
from functools import reduce

import numpy as np

from vaekit.data.checks import check_cells, stored_support
from vaekit.data.scaling import Moments
from vaekit.data.schema import Binary, Levels, Real, Support
from vaekit.data.source import Fingerprint
from vaekit.data.spec import DataSpec
from vaekit.data.stores import Store


@dataclass(frozen=True, eq=False)
class Scan:
    """What the pass found.

    Attributes:
        stored: the support of all values.
        moments: of the training rows, where they are wanted.
        fingerprint: as `Source.fingerprint` gives it for the same data in memory.
        rows: the rows that are kept, in memory.
    """

    stored: Support
    moments: Moments | None
    fingerprint: str
    rows: np.ndarray


def scan_store(store: Store, spec: DataSpec, keep: np.ndarray, out: np.ndarray, moments: bool) -> Scan:
    """Read a store once, a chunk at a time.

    Args:
        store: the data.
        spec: the support that is declared.
        keep: (n,) rows to keep in memory, by number, in the order in which they are returned.
        out: (m,) rows in rising order that training leaves out.
        moments: whether to compute those of the training rows.

    Raises:
        DataError: a cell is not finite or breaks the support that `spec` declares; it names the first.
    """
    digest = Fingerprint(0)
    digest.begin(store.dtype, (len(store), *store.shape))
    supports: list[Support] = []
    found: Moments | None = None
    kept = np.empty((len(keep), *store.shape), store.dtype)
    by_row = np.argsort(keep, kind="stable")
    rising = keep[by_row]
    for chunk in range(len(store.starts) - 1):
        start, stop = int(store.starts[chunk]), int(store.starts[chunk + 1])
        values = store.read(chunk)
        part = store.part(values, start)
        check_cells(part)
        supports = [_join([*supports, stored_support(part, spec)])]
        digest.add(values)
        first, last = np.searchsorted(rising, (start, stop))
        kept[by_row[first:last]] = values[rising[first:last] - start]
        if moments:
            first, last = np.searchsorted(out, (start, stop))
            train = np.delete(values, out[first:last] - start, axis=0)
            if len(train):
                here = Moments.of(train, store.columns is not None)
                found = here if found is None else found.join(here)
    if store.labels is not None:
        digest.begin(store.labels.dtype, store.labels.shape)
        digest.add(store.labels)
    return Scan(supports[0], found, digest.value(), kept)


def _join(supports: list[Support]) -> Support:
    """The support of parts together."""
    return reduce(_either, supports)


def _either(one: Support, other: Support) -> Support:
    """Every part has one or more of: binary, which is within all others; levels; real, which contains all others."""
    if isinstance(one, Levels) and isinstance(other, Levels):
        return one if one.count >= other.count else other
    if isinstance(one, Binary) or isinstance(other, Real):
        return other
    return one
