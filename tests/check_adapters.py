"""Adapters that PEFT itself saved, whole and damaged."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

from lora_probe.checks.adapter import CONFIG, TENSORS
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["ADAPTERS", "change_config", "change_tensors", "save_adapter"]

_BASE = "somewhere/LlamaForCausalLM"
"""What the config names; a live model is known by its class."""


def save_adapter(folder: Path, model: str = "llama", **config: Any) -> Path:
    """Train nothing, but let PEFT save the adapter of a tiny model to `folder`."""
    from peft import LoraConfig, get_peft_model

    given = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(build_tiny(model), LoraConfig(**given))
        tuned.peft_config["default"].base_model_name_or_path = _BASE
        tuned.save_pretrained(folder)
    return folder


def change_config(folder: Path, **changes: Any) -> None:
    """Write other values into the adapter's config."""
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder: Path, name: Callable[[str], str | None]) -> None:
    """Rename the adapter's tensors; None drops one."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / TENSORS)
    save_file({new: value for old, value in tensors.items() if (new := name(old))}, folder / TENSORS)


def _incomplete(folder: Path) -> None:
    change_tensors(save_adapter(folder), lambda name: None if ".layers.1." in name else name)


def _other_rank(folder: Path) -> None:
    change_config(save_adapter(folder), r=2)


def _old_prefix(folder: Path) -> None:
    old = "base_model.model.language_model.model."
    change_tensors(save_adapter(folder), lambda name: name.replace("base_model.model.model.", old))


def _other_model(folder: Path) -> None:
    change_config(save_adapter(folder), base_model_name_or_path="acme/another-7b")


ADAPTERS: Mapping[str, Callable[[Path], Any]] = {
    "whole": save_adapter,
    "incomplete": _incomplete,
    "other rank": _other_rank,
    "old prefix": _old_prefix,
    "other model": _other_model,
}
