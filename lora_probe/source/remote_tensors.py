"""Read safetensors headers on the hub by range requests: some kilobytes of each file, never its data."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from lora_probe.errors import BadCheckpoint, CheckpointNotFound
from lora_probe.source.environment import endpoint, seconds
from lora_probe.source.hub import MAX_SECONDS, ask
from lora_probe.source.safetensors_header import PREFIX_BYTES, TensorInfo, header_length, parse_header
from lora_probe.source.tensors import INDEX, MAX_INDEX_BYTES, SINGLE, join_shards, parse_index

__all__ = ["repository_tensors"]

_FIRST_BYTES = 100_000
"""Bytes asked for at once: most headers are shorter, so that one request is enough."""
_REQUESTS_AT_ONCE = 8
_CHUNK_BYTES = 2**16
_PARTIAL = 206
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Repository:
    """Where to read from, and as whom."""

    name: str
    revision: str | None
    token: str | bool | None
    deadline: float
    """Time (monotonic) after which nothing more is asked for: the process must be able to end."""

    def where(self, file: str) -> str:
        return f"{self.name}/{file} on the hub"

    def require_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"not all headers came within {MAX_SECONDS:g} s")


def repository_tensors(
    repository: str, *, model: str, revision: str | None, token: str | bool | None
) -> tuple[TensorInfo, ...]:
    """Return the tensors of a hub repository's checkpoint.

    Raises:
        CheckpointNotFound: the repository has no safetensors file of the usual names.
        BadCheckpoint: a header or the index lies, or is cut off.
        ModelNotFound, HubError: as for any request to the hub.

    """
    deadline = time.monotonic() + MAX_SECONDS
    origin = _Repository(name=repository, revision=revision, token=token, deadline=deadline)
    return ask(partial(_read_checkpoint, origin, model), model=model, revision=revision, token=token)


def _read_checkpoint(origin: _Repository, model: str) -> tuple[TensorInfo, ...]:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return _read_header(origin, SINGLE)
    except EntryNotFoundError:
        pass
    try:
        index, _ = _read(origin, INDEX, 0, MAX_INDEX_BYTES)
    except EntryNotFoundError:
        advice = "the hub repository has none of the usual names: convert its weights to safetensors"
        raise CheckpointNotFound(model=model, advice=advice) from None
    where = origin.where(INDEX)
    weights = parse_index(index, where=where)
    files = list(dict.fromkeys(weights.values()))
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        headers = pool.map(partial(_read_shard, origin), files)
        return join_shards(zip(files, headers, strict=True), weights=weights, where=where)


def _read_shard(origin: _Repository, file: str) -> tuple[TensorInfo, ...]:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return _read_header(origin, file)
    except EntryNotFoundError:
        problem = f"it names {file}, which the repository lacks"
        raise BadCheckpoint(where=origin.where(INDEX), problem=problem) from None


def _read_header(origin: _Repository, file: str) -> tuple[TensorInfo, ...]:
    where = origin.where(file)
    start, size = _read(origin, file, 0, _FIRST_BYTES)
    length = header_length(start[:PREFIX_BYTES], where=where, file_bytes=size)
    header = start[PREFIX_BYTES : PREFIX_BYTES + length]
    if len(header) < length:
        rest, _ = _read(origin, file, len(start), PREFIX_BYTES + length - len(start))
        header += rest
    return parse_header(header, where=where, data_bytes=size and size - PREFIX_BYTES - length)


def _read(origin: _Repository, file: str, begin: int, count: int) -> tuple[bytes, int | None]:
    """Return at most `count` bytes of a file from `begin` on, and the file's size where the hub says it."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined] # documented, but not re-exported
        build_hf_headers,
        hf_raise_for_status,
    )

    origin.require_time()
    url = hf_hub_url(origin.name, file, revision=origin.revision, endpoint=endpoint())
    headers = build_hf_headers(token=origin.token)
    headers |= {"Range": f"bytes={begin}-{begin + count - 1}", "Accept-Encoding": "identity"}
    wait = seconds("HF_HUB_DOWNLOAD_TIMEOUT")
    # Streamed, so that a server that ignores the range does not send gigabytes.
    with get_session().stream("GET", url, headers=headers, timeout=wait, follow_redirects=True) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        ranged = response.status_code == _PARTIAL
        skip = 0 if ranged else begin
        data = bytearray()
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            data += chunk
            origin.require_time()
            if len(data) >= skip + count:
                break
        total = response.headers.get("Content-Range" if ranged else "Content-Length", "")
    match = _TOTAL.fullmatch(total)
    size = int(match[1]) if match else int(total) if total.isdecimal() else None
    return bytes(data[skip : skip + count]), size
