"""The data pipeline: open a source as a `Table`, fit a `Schema`, transform it into a `Dataset` of rows."""

from vaekit.data.codes import Codes, read_codes
from vaekit.data.dataset import Dataset, context_like, prepare, read_like, rows_like
from vaekit.data.given import dataset_of
from vaekit.data.in_memory import array_of
from vaekit.data.interactions import Interactions
from vaekit.data.named import names, where
from vaekit.data.open import open_interactions
from vaekit.data.rows import Rows
from vaekit.data.schema import Binary, Count, Field, Levels, Mixed, Real, Schema, Support, Unit
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.streaming import StreamedRows
from vaekit.data.table import Column, Table

__all__ = [
    "Binary",
    "Codes",
    "Column",
    "Count",
    "DataSpec",
    "Dataset",
    "Field",
    "Interactions",
    "Levels",
    "Limit",
    "Mixed",
    "Real",
    "Rows",
    "Schema",
    "StreamedRows",
    "Support",
    "Table",
    "Unit",
    "array_of",
    "context_like",
    "dataset_of",
    "names",
    "open_interactions",
    "prepare",
    "read_codes",
    "read_like",
    "rows_like",
    "where",
]
