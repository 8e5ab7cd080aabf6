"""What the decompressors of Python's own library raise over damaged files."""

import lzma
import struct
import zipfile
import zlib

# What zipfile and its decompressors raise over a damaged, encrypted or oddly packed archive.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)
