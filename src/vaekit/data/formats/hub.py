# pyright: reportAttributeAccessIssue=false
"""Tables of the Hugging Face hub, by the name hf:owner/name[@revision][:split]."""

import re
from typing import Any

import pyarrow as pa

from vaekit.data.bounds import check_whole
from vaekit.data.columns import listing
from vaekit.data.formats.arrow import table_of_arrow
from vaekit.data.spec import DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import ConfigError, DataError, SpecError
from vaekit.words import counted

_NAME = re.compile(r"hf:(?P<name>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<split>[^:]+))?")


def open_hub(spec: DataSpec, sizes: Sizes) -> Table:
    """The table that `spec.source` names; its split called test is the test set, unless a split is named.

    The package `datasets` downloads it, or takes it from its cache; HF_HUB_OFFLINE=1 keeps it to that.

    Raises:
        ConfigError: That package is not installed.
        SpecError: The name is none.
        DataError: There is no such data set, revision or split, or it takes more memory than `sizes.whole`.
    """
    source = spec.source or ""
    parts = _NAME.fullmatch(source)
    if parts is None:
        raise SpecError(
            f"DataSpec.source={source[:200]} is no name on the hub: give hf:owner/name, with @revision and :split "
            "after it if need be.",
            field="DataSpec.source",
            value=source,
        )
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            f"{source} is read by the package datasets, which is not installed: pip install 'vaekit[hub]'"
        ) from None
    try:
        found: Any = datasets.load_dataset(parts["name"], revision=parts["revision"])
        wanted = [parts["split"]] if parts["split"] else _splits(list(found))
        lacking = [split for split in wanted if split not in found]
        arrows = [] if lacking else [_arrow(found[split]) for split in wanted]
    except MemoryError:
        raise
    # It is a client of a service: what goes wrong there cannot be listed.
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise DataError(
            f"{source} cannot be had ({why}): check the name, the revision and the network.",
            field="DataSpec.source",
            value=source,
        ) from None
    if lacking or not wanted:
        raise DataError(
            f"{source}: its splits are {listing(list(found))}: name one of them, as hf:owner/name:split.",
            field="DataSpec.source",
            value=source,
        )
    check = sum(8 * arrow.num_rows * arrow.num_columns for arrow in arrows)
    check_whole(source, check, sizes.whole)
    if any(arrow.schema != arrows[0].schema for arrow in arrows):
        raise DataError(
            f"{source}: its splits have different columns: name one of them, as hf:owner/name:split.",
            field="DataSpec.source",
            value=source,
        )
    arrow = pa.concat_tables(arrows)
    if arrow.num_rows == 0 or arrow.num_columns == 0:
        raise DataError(
            f"{source} has {counted(arrow.num_rows, 'row')} and {counted(arrow.num_columns, 'column')}"
            "; some of both are needed."
        )
    pinned = parts["revision"] is not None
    return table_of_arrow(
        source,
        arrow,
        spec,
        test_rows=arrows[1].num_rows if len(arrows) > 1 else 0,
        note=f"splits {' and '.join(wanted)}, revision {parts['revision'] or 'not pinned'}",
        notices=() if pinned else ("no revision is pinned, and the hub's may change: add @ and a commit to the name",),
    )


def _splits(names: list[str]) -> list[str]:
    """Training rows, and a test set if there is one; none where neither is to be seen."""
    if "train" in names:
        return [name for name in ("train", "test") if name in names]
    return names if len(names) == 1 else []


def _arrow(split: Any) -> pa.Table:
    """The columns of a split, classes by their names."""
    arrow = split.data.table
    for place, name in enumerate(arrow.column_names):
        classes = getattr(split.features[name], "names", None)
        if classes:
            codes = arrow[name].combine_chunks().cast(pa.int32())
            codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
            codes = pa.array([None if code is None or code < 0 else code for code in codes.to_pylist()], pa.int32())
            arrow = arrow.set_column(place, name, pa.DictionaryArray.from_arrays(codes, pa.array(classes)))
    return arrow.replace_schema_metadata(None)
