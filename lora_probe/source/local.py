"""A path on this machine: a model folder or a ``config.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_probe.errors import ModelNotFound, UnreadableFile
from lora_probe.graph import Note
from lora_probe.source.config_file import MAX_BYTES, read_config
from lora_probe.source.files import file_names, is_file, read_bytes
from lora_probe.source.records import Located, SourceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_pickle", "locate_file", "locate_folder", "looks_like_path"]

_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_NO_HUB_NAME = ("/", ".", "~")
_WHOLE_MODEL = "model*.safetensors"


def is_pickle(path: Path) -> bool:
    """Return whether a file of that name may be a pickle, which can run code when it is opened."""
    return path.suffix.lower() in _PICKLES


def looks_like_path(text: str) -> bool:
    """Return whether `text` can only be meant as a path: no hub id starts or ends or is nested like this."""
    return (
        text.startswith(_NO_HUB_NAME)
        or "\\" in text
        or text.count("/") > 1
        or text.endswith(("/", ".json", ".safetensors"))
        or is_pickle(Path(text))
    )


def locate_folder(path: Path, *, model: str) -> Located:
    """Return the model in the folder at `path`; without ``config.json``, its safetensors files alone.

    Raises:
        ModelNotFound: the folder holds neither; says what it holds instead.
        UnreadableFile, BadConfig: its ``config.json`` cannot be read.

    """
    names = file_names(path)
    config: dict[str, Any] | None = None
    notes: tuple[Note, ...] = ()
    if "config.json" in names:
        config = read_config(path / "config.json")
    elif any(path.glob(_WHOLE_MODEL)):
        notes = (
            Note(code="no-config", message=f"{path} has no config.json: read from its weights' headers"),
        )
    else:
        raise ModelNotFound(
            model=model, problem="the folder has no config.json", advice=_what_else(path, names)
        )
    return Located(
        model=model, kind=SourceKind.FOLDER, detail=str(path), config=config, folder=path, notes=notes
    )


def locate_file(path: Path, *, model: str) -> Located:
    """Return the model whose config is the file at `path`, whatever its name.

    Raises:
        ModelNotFound: the file holds weights, not a config.
        UnreadableFile, BadConfig: it cannot be read, or is no config.

    """
    if is_pickle(path):
        raise ModelNotFound(
            model=model,
            problem="the file may be a pickle, which can run code and is never opened",
            advice="give the model's config.json, or convert the weights to safetensors",
        )
    if path.suffix in {".safetensors", ".gguf"}:
        raise ModelNotFound(
            model=model,
            problem="the file holds weights, not a config",
            advice="give the folder that holds the model" if path.suffix != ".gguf" else "give a config.json",
        )
    config = read_config(path)
    return Located(model=model, kind=SourceKind.CONFIG, detail=str(path), config=config, folder=path.parent)


def _what_else(path: Path, names: Sequence[str]) -> str:
    """Say what to do with a folder that holds something other than a model."""
    if "adapter_config.json" in names:
        base = _base_model(path / "adapter_config.json")
        return f"it holds a PEFT adapter: scan its base model{f' {base}' if base else ''}"
    if "model_index.json" in names:
        return "it holds a pipeline of models: scan one of its sub-folders"
    if any(is_pickle(Path(name)) for name in names):
        return "pickled weights are never opened: add the model's config.json, or convert them to safetensors"
    folders = [name for name in names if is_file(path / name / "config.json")]
    if folders:
        return f"scan one of its sub-folders: {', '.join(folders[:3])}"
    return "give a folder that holds one, or the path of a config.json"


def _base_model(path: Path) -> str | None:
    try:
        base = json.loads(read_bytes(path, limit=MAX_BYTES)).get("base_model_name_or_path")
    except (UnreadableFile, ValueError, AttributeError, RecursionError):
        return None
    return base if isinstance(base, str) else None
