"""An adapter on disk: its config, and the names and shapes of its tensors.

Nothing is unpickled, and no data is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_probe.checks.peft_config import settings_from_config
from lora_probe.errors import BadAdapter, BadConfig
from lora_probe.source.config_file import read_config
from lora_probe.source.files import is_file, is_folder, open_regular
from lora_probe.source.safetensors_header import PREFIX_BYTES, header_length, parse_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.peft_rules import LoraSettings

__all__ = ["CONFIG", "TENSORS", "SavedAdapter", "read_adapter"]

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
_PICKLES = ("adapter_model.bin", "adapter_model.pt")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedAdapter:
    """What PEFT's `save_pretrained` wrote, as far as names and shapes go."""

    folder: str
    settings: LoraSettings
    base_model: str | None
    """The model that it was trained on, as its config names it."""
    tensors: Mapping[str, tuple[int, ...]]
    """Shapes by full name."""


def read_adapter(path: str | os.PathLike[str]) -> SavedAdapter:
    """Return the adapter in the folder `path`.

    Raises:
        BadAdapter: there is no such folder, a file in it is missing, pickled or broken, or it is no LoRA.
        BadCheckpoint: the header of its tensors lies or is cut off.
        UnreadableFile: a file cannot be read.

    """
    folder = Path(path)
    if "\0" in str(folder):
        raise BadAdapter(where=str(folder), problem="no path holds a NUL", advice="check the path")
    if not is_folder(folder):
        advice = f"give the folder that holds {CONFIG}" if is_file(folder) else "check the path"
        raise BadAdapter(where=str(folder), problem="there is no such folder", advice=advice)
    if not is_file(folder / CONFIG):
        raise BadAdapter(
            where=str(folder), problem=f"it holds no {CONFIG}", advice="PEFT's save_pretrained writes it"
        )
    config = _config(folder / CONFIG)
    if config.get("layer_replication"):
        raise BadAdapter(
            where=f"{folder / CONFIG}, layer_replication",
            problem="the adapter was trained on a model with repeated layers, which is not built here",
        )
    base = config.get("base_model_name_or_path")
    return SavedAdapter(
        folder=str(folder),
        settings=settings_from_config(config, where=str(folder / CONFIG)),
        base_model=base if isinstance(base, str) and base else None,
        tensors=_tensors(folder),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        return read_config(path)
    except BadConfig as error:
        raise BadAdapter(where=str(path), problem=error.problem) from error


def _tensors(folder: Path) -> dict[str, tuple[int, ...]]:
    path = folder / TENSORS
    if not is_file(path):
        pickled = next((name for name in _PICKLES if is_file(folder / name)), None)
        if pickled is None:
            raise BadAdapter(where=str(folder), problem=f"it holds no {TENSORS}")
        raise BadAdapter(
            where=str(folder / pickled),
            problem="it is a pickle, which can run code and is never opened",
            advice="load it with PEFT where you trust it, and save it with safe_serialization=True",
        )
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(PREFIX_BYTES), where=str(path), file_bytes=size)
        header = file.read(length)
    tensors = parse_header(header, where=str(path), data_bytes=size - PREFIX_BYTES - length)
    return {tensor.name: tensor.shape for tensor in tensors}
