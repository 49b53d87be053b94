"""Safetensors files made by hand, right and wrong, for tests of what reads their headers."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["entry", "header_bytes", "index_bytes", "safetensors_bytes"]


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """Return one tensor's entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_bytes(shapes: dict[str, list[int]]) -> bytes:
    """Return a well-formed file of BF16 tensors full of zeros."""
    document: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, shape in shapes.items():
        count = 2
        for size in shape:
            count *= size
        document[name] = entry("BF16", shape, reached, reached + count)
        reached += count
    return header_bytes(document, data=reached)


def header_bytes(document: object, *, data: int = 0) -> bytes:
    """Return a file with this header, whatever it says, and `data` zero bytes after it."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def index_bytes(weight_map: object) -> bytes:
    """Return the index of a sharded checkpoint."""
    return json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}).encode()
