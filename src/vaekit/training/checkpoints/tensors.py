"""Tensors in safetensors files: equal tensors give equal bytes, and a header is checked before it is believed.

The format: eight bytes with the length of a JSON header, the header, the numbers of all tensors end to end.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from vaekit.errors import ModelFileError
from vaekit.files import parse_json
from vaekit.training.run_files import FORMAT_VERSION, check_format

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTH = 8  # bytes that hold the length of the header
_HEADER, _ENTRY = 1 << 16, 1 << 10  # bytes of a header: for its metadata, and for each tensor


class _Entry(BaseModel):
    """Of one tensor: where its numbers lie, counted from the end of the header."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL"]
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 48)]], Field(max_length=16)]
    data_offsets: tuple[int, int]


_ENTRIES = TypeAdapter(dict[str, _Entry])
_METADATA = TypeAdapter(dict[str, str])


def pack_tensors(tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> bytes:
    """The bytes of a safetensors file, a function of names, values and `about`, its metadata, alone."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    order = sorted(plain, key=lambda name: (-plain[name].element_size(), name))  # so that each lies aligned
    texts = {key: str(value) for key, value in {"format_version": FORMAT_VERSION, **about}.items()}
    header: dict[str, object] = {"__metadata__": dict(sorted(texts.items()))}
    end = 0
    for name in order:
        begin, end = end, end + plain[name].nbytes
        header[name] = {
            "dtype": _NAMES[plain[name].dtype],
            "shape": list(plain[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    numbers = [plain[name].reshape(-1).view(torch.uint8).numpy().data for name in order]
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *numbers])


def unpack_tensors(content: bytes, where: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file's bytes.

    Raises:
        ModelFileError: It is not a whole safetensors file, says a thing twice, or is of a newer format.
    """
    try:
        metadata = _check_header(content)
        check_format(metadata.get("format_version", "1"), where)
        return load(content), metadata
    except (SafetensorError, ValueError) as error:
        raise ModelFileError(
            f"{where} is not a whole safetensors file: {error}; train again, or give another run"
        ) from None


def most_bytes(tensors: Mapping[str, Tensor], times: int = 1) -> int:
    """How large a file of tensors like these can be; with `times` as many."""
    return _LENGTH + _HEADER + times * sum(value.nbytes + _ENTRY for value in tensors.values())


def check_alike(tensors: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> str:
    """The first way in which tensors differ from those of a model in names, shapes or types; empty where they agree."""
    for name in sorted(model.keys() | tensors.keys()):
        theirs, ours = (_form(found[name]) if name in found else "missing" for found in (tensors, model))
        if theirs != ours:
            return f"{name} is {theirs} there, and {ours} by the settings"
    return ""


def _form(value: Tensor) -> str:
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _check_header(content: bytes) -> dict[str, str]:
    """The metadata, once the entries are found to lie end to end over the whole file; ValueError otherwise."""
    length = int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or length > len(content) - _LENGTH:
        raise ValueError(f"its header has {length:,} bytes, and the file {len(content):,}")
    tree = parse_json(content[_LENGTH : _LENGTH + length], unique=True)
    if not isinstance(tree, dict):
        raise ValueError("its header is not a mapping")
    try:
        metadata = _METADATA.validate_python(tree.pop("__metadata__", {}), strict=True)
        entries = _ENTRIES.validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, size = entry.data_offsets[0], math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize
        if begin != end or entry.data_offsets[1] != begin + size:
            raise ValueError(f"{name[:100]} lies at {list(entry.data_offsets)}, and should at {[end, end + size]}")
        end += size
    if end != len(content) - _LENGTH - length:
        raise ValueError(f"its tensors have {end:,} bytes, and the file holds {len(content) - _LENGTH - length:,}")
    return metadata
