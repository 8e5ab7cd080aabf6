"""Rows that are read from disk in chunks, a window of them at a time."""

from vaekit.data.streaming.rows import StreamedRows

__all__ = ["StreamedRows"]
