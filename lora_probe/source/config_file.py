"""Read a ``config.json`` that may be anything: bounded in size and depth, and never a surprise.

Only regular files are opened (a FIFO would wait for ever), at most :data:`MAX_BYTES` are read, and whatever
is not a JSON object of moderate depth becomes one :class:`~lora_probe.errors.BadConfig`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lora_probe.errors import BadConfig
from lora_probe.source.files import read_bytes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_BYTES", "parse_config", "read_config"]

MAX_BYTES = 8 * 2**20
"""Bytes of the longest config that is read; with the names of 21,000 labels it is below 3 MiB."""
MAX_DEPTH = 32
"""Levels of nesting; published configs have at most 6."""
_FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_LFS_POINTER = b"version https://git-lfs"


def read_config(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file at `path`.

    Raises:
        UnreadableFile: there is no such regular file, or it may not be read.
        BadConfig: it is too long, no JSON, no object, or nested too deeply.

    """
    data = read_bytes(path, limit=MAX_BYTES + 1)
    return parse_config(data, where=str(path))


def parse_config(data: bytes, *, where: str) -> dict[str, Any]:
    """Return the JSON object in `data`, which came from `where`.

    Raises:
        BadConfig: it is too long, no JSON, no object, or nested too deeply.

    """
    if len(data) > MAX_BYTES:
        raise BadConfig(where=where, problem=f"it is longer than {MAX_BYTES // 2**20} MiB, no config.json is")
    try:
        config = json.loads(data)
    except RecursionError as error:
        raise BadConfig(where=where, problem=_TOO_DEEP) from error
    except ValueError as error:
        raise BadConfig(where=where, problem=_why_no_json(data, error)) from error
    if not isinstance(config, dict):
        raise BadConfig(where=where, problem=f"it holds a JSON {_KINDS[type(config)]}, expected an object")
    _tidy(config, depth=MAX_DEPTH, where=where)
    return config


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"
_KINDS: dict[type, str] = {
    list: "array", str: "string", int: "number", float: "number", bool: "boolean", type(None): "null",
}  # fmt: skip


def _tidy(value: dict[str, Any] | list[Any], *, depth: int, where: str) -> None:
    """Refuse deep nesting, and put floats in place of transformers' tagged ones ({"__float__": "NaN"})."""
    if depth == 0:
        raise BadConfig(where=where, problem=_TOO_DEEP)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict) and len(item) == 1 and isinstance(tag := item.get("__float__"), str):
            value[key] = _FLOATS.get(tag, item)  # type: ignore[index] # the key is the container's own
        elif isinstance(item, (dict, list)):
            _tidy(item, depth=depth - 1, where=where)


def _why_no_json(data: bytes, error: ValueError) -> str:
    """Say what the bytes are instead, where that is plain."""
    start = data[:512].lstrip()
    if not start:
        return "it is empty"
    if start.startswith(_LFS_POINTER):
        return "it is a Git LFS pointer, not the file: run `git lfs pull`"
    if start.startswith(b"<"):
        return "it is a web page or XML, not JSON"
    if isinstance(error, UnicodeDecodeError) or b"\0" in start:
        return "it is a binary file, not JSON"
    return f"it is no valid JSON ({error})"
