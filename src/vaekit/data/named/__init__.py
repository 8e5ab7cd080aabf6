"""Data sets that have a name: bundled, or downloaded once."""

from vaekit.data.named.catalogue import NAMED, Named, names, where

__all__ = ["NAMED", "Named", "names", "where"]
