"""Parse the header of a safetensors file, trusting nothing in it.

The format (github.com/huggingface/safetensors, "Format"): 8 bytes with the header's length as a little-endian
integer, the header as a JSON object {name: {dtype, shape, data_offsets}}, then the data. Offsets count from
the end of the header; the tensors tile the data without overlap or hole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any

from lora_probe.errors import BadCheckpoint

__all__ = ["MAX_HEADER_BYTES", "PREFIX_BYTES", "TensorInfo", "header_length", "parse_header"]

PREFIX_BYTES = 8
MAX_HEADER_BYTES = 25_000_000
"""Longest header that is read: huggingface_hub's own bound."""
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element, by safetensors' code."""
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_MAX_DIMENSIONS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One tensor of a checkpoint: what its header says, without its data."""

    name: str
    dtype: str
    """safetensors' code: BF16, F8_E4M3, U8, …"""
    shape: tuple[int, ...]


def header_length(prefix: bytes, *, where: str, file_bytes: int | None) -> int:
    """Return the bytes of the header after the 8 bytes of `prefix`; `file_bytes` is the file's, if known.

    Raises:
        BadCheckpoint: the file is too short, or its header too long.

    """
    if len(prefix) < PREFIX_BYTES:
        raise BadCheckpoint(where=where, problem=f"it has only {len(prefix)} bytes")
    length = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        problem = f"it is no safetensors file: its header would have {length:,} bytes"
        raise BadCheckpoint(where=where, problem=problem)
    if file_bytes is not None and PREFIX_BYTES + length > file_bytes:
        problem = f"it is cut off: {file_bytes:,} bytes, the header alone needs {PREFIX_BYTES + length:,}"
        raise BadCheckpoint(where=where, problem=problem)
    return length


def parse_header(header: bytes, *, where: str, data_bytes: int | None) -> tuple[TensorInfo, ...]:
    """Return the tensors of a header, in its order; `data_bytes` is what the file has after it, if known.

    Raises:
        BadCheckpoint: the header is no JSON object, an entry is malformed, or the tensors do not tile the
            data.

    """
    try:
        document = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise BadCheckpoint(where=where, problem="its header is nested too deeply") from None
    except ValueError as error:
        raise BadCheckpoint(where=where, problem=f"its header is no valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise BadCheckpoint(where=where, problem="its header is no JSON object")
    document.pop("__metadata__", None)
    spans: list[tuple[int, int, str]] = []
    tensors: list[TensorInfo] = []
    for name, entry in document.items():
        try:
            tensor, begin, end = _tensor(name, entry)
        except ValueError as error:
            raise BadCheckpoint(where=where, problem=f"tensor {name!r} has {error}") from None
        tensors.append(tensor)
        spans.append((begin, end, name))
    _require_tiling(spans, where=where, data_bytes=data_bytes)
    return tuple(tensors)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a name occurs twice")
    return document


def _tensor(name: str, entry: Any) -> tuple[TensorInfo, int, int]:
    """Return a tensor and the span of its data.

    Raises:
        ValueError: what is wrong, to be read after "tensor NAME has".

    """
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise ValueError("not the fields dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"an unknown dtype {str(dtype)[:20]!r}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError("a shape that is no list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:  # noqa: PLR2004 -- begin and end
        raise ValueError("data_offsets that are no pair of sizes")
    begin, end = offsets
    bits = _BITS[dtype] * prod(shape)
    if bits != 8 * (end - begin):
        raise ValueError(f"{end - begin:,} bytes of data, its shape needs {-(-bits // 8):,}")
    return TensorInfo(name=name, dtype=dtype, shape=tuple(shape)), begin, end


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _require_tiling(spans: list[tuple[int, int, str]], *, where: str, data_bytes: int | None) -> None:
    """Check that the spans follow each other without overlap or hole up to the end of the file."""
    reached = 0
    for begin, end, name in sorted(spans):
        if begin < reached:
            raise BadCheckpoint(where=where, problem=f"tensor {name!r} overlaps the one before it")
        if begin > reached:
            raise BadCheckpoint(where=where, problem=f"there is a hole in the data before tensor {name!r}")
        reached = end
    if data_bytes is not None and reached != data_bytes:
        problem = f"its tensors need {reached:,} bytes of data, it has {data_bytes:,}"
        raise BadCheckpoint(where=where, problem=problem)
