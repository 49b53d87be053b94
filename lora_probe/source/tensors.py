"""Names, types and shapes of a checkpoint's tensors, read from safetensors headers: never any data.

For models that the installed transformers cannot build. Pickled checkpoints are never opened.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.errors import BadCheckpoint, CheckpointNotFound
from lora_probe.source.files import file_names, is_file, open_regular
from lora_probe.source.local import is_pickle
from lora_probe.source.safetensors_header import PREFIX_BYTES, TensorInfo, header_length, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lora_probe.source.records import Located

__all__ = ["INDEX", "SINGLE", "TensorInfo", "checkpoint_tensors", "join_shards", "parse_index"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 * 2**20
"""Longest index that is read; DeepSeek-V3's has 9 MB."""
MAX_SHARDS = 10_000
_NOT_MODELS = ("adapter_model", "optimizer", "scheduler", "rng_state", "training_args")


def checkpoint_tensors(located: Located, *, token: str | bool | None = None) -> tuple[TensorInfo, ...]:
    """Return the tensors of the model's checkpoint: from its folder, else by range requests to the hub.

    `token` is as huggingface_hub takes it.

    Raises:
        CheckpointNotFound: there is no safetensors file; says what there is instead.
        BadCheckpoint: a header or the index lies, is cut off, or points out of its folder.
        UnreadableFile, HubError: a file cannot be read, or the hub not reached.

    """
    if located.folder is not None:
        found = _in_folder(located.folder, whole=located.repository is not None)
        if found is not None:
            return found
    if located.repository is None:
        raise CheckpointNotFound(model=located.model, advice=_what_else(located.folder))
    from lora_probe.source.remote_tensors import repository_tensors

    return repository_tensors(located.repository, model=located.model, revision=located.revision, token=token)


def parse_index(data: bytes, *, where: str) -> Mapping[str, str]:
    """Return tensor name -> file name of a sharded checkpoint's index.

    Raises:
        BadCheckpoint: it is no such index, or names a file outside of its own folder.

    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(where=where, problem=f"it is no valid JSON ({error})") from error
    weights = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise BadCheckpoint(where=where, problem="it has no weight_map")
    for file in weights.values():
        if not isinstance(file, str) or not _is_plain_name(file):
            raise BadCheckpoint(
                where=where, problem=f"it names {str(file)[:60]!r}, no file of its own folder"
            )
    if len(set(weights.values())) > MAX_SHARDS:
        raise BadCheckpoint(where=where, problem=f"it names more than {MAX_SHARDS:,} files")
    return weights


def join_shards(
    shards: Iterable[tuple[str, tuple[TensorInfo, ...]]], *, weights: Mapping[str, str], where: str
) -> tuple[TensorInfo, ...]:
    """Return the tensors of all `shards` (file name, its tensors), each of which has its place in the index.

    Raises:
        BadCheckpoint: the index names a tensor that its file lacks, or two files hold the same.

    """
    homes: dict[str, str] = {}
    tensors: list[TensorInfo] = []
    for file, found in shards:
        for tensor in found:
            if homes.setdefault(tensor.name, file) != file:
                problem = f"tensor {tensor.name!r} is in {homes[tensor.name]} and in {file}"
                raise BadCheckpoint(where=where, problem=problem)
            tensors.append(tensor)
    for name, file in weights.items():
        if homes.get(name) != file:
            problem = f"it says that {file} holds tensor {name!r}, which it does not"
            raise BadCheckpoint(where=where, problem=problem)
    return tuple(tensors)


def _in_folder(folder: Path, *, whole: bool) -> tuple[TensorInfo, ...] | None:
    """Return the tensors of the checkpoint in `folder`, None where there is no safetensors file.

    With `whole`, a folder that lacks some of its shards counts as having none: the hub has them.
    """
    if is_file(folder / SINGLE):  # transformers looks for it first, too
        return _read_header(folder / SINGLE)
    index = folder / INDEX
    if is_file(index):
        weights = parse_index(_read(index, MAX_INDEX_BYTES), where=str(index))
        files = dict.fromkeys(weights.values())
        if whole and not all(is_file(folder / file) for file in files):
            return None
        shards = ((file, _read_header(folder / file)) for file in files)
        return join_shards(shards, weights=weights, where=str(index))
    others = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith(_NOT_MODELS))
    shards = ((path.name, _read_header(path)) for path in others)
    return join_shards(shards, weights={}, where=str(folder)) if others else None


def _read(path: Path, limit: int) -> bytes:
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BadCheckpoint(where=str(path), problem=f"it is longer than {limit // 2**20} MiB")
    return data


def _read_header(path: Path) -> tuple[TensorInfo, ...]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(PREFIX_BYTES), where=str(path), file_bytes=size)
        header = file.read(length)
    return parse_header(header, where=str(path), data_bytes=size - PREFIX_BYTES - length)


def _is_plain_name(file: str) -> bool:
    return bool(file) and file not in {".", ".."} and not set(file) & set("/\\\0")


def _what_else(folder: Path | None) -> str:
    """Say what to do about a folder that has no safetensors file."""
    if folder is not None and any(is_pickle(Path(name)) for name in file_names(folder)):
        return "pickled weights are never opened: convert them to safetensors"
    return "give a folder that holds the model's safetensors files, or a hub id"
