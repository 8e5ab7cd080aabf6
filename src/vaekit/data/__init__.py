"""From a name or a path to arrays: sources, readers, and the schema (shape, support, scaling, split, fingerprint)."""

from vaekit.data.codes import Codes, read_codes
from vaekit.data.dataset import Dataset, context_like, prepare, read_like, rows_like
from vaekit.data.in_memory import array_of, dataset_of
from vaekit.data.named import names, where
from vaekit.data.rows import Rows
from vaekit.data.schema import Binary, Count, Levels, Real, Schema, Support, Unit
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.streamed import StreamedRows

__all__ = [
    "Binary",
    "Codes",
    "Count",
    "DataSpec",
    "Dataset",
    "Levels",
    "Limit",
    "Real",
    "Rows",
    "Schema",
    "StreamedRows",
    "Support",
    "Unit",
    "array_of",
    "context_like",
    "dataset_of",
    "names",
    "prepare",
    "read_codes",
    "read_like",
    "rows_like",
    "where",
]
