"""Reading a path as a data set, and being refused it in one sentence."""

from pathlib import Path

import pytest

from vaekit.data import DataSpec, Limit, prepare
from vaekit.data.source import Source
from vaekit.data.sources import load_source
from vaekit.errors import DataError, VaekitError


def load(path: Path, **settings) -> Source:
    return load_source(DataSpec(source=str(path), **settings))


def refused(path: Path, *parts: str, error: type[VaekitError] = DataError, **settings) -> str:
    with pytest.raises(error) as caught:
        prepare(DataSpec(source=str(path), **settings), Limit())
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert message.count("\n") == 0
    assert message.endswith(".")
    return message
