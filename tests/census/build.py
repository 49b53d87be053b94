"""Builds each registered model type of the installed transformers on the meta device."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers.models.auto import configuration_auto, modeling_auto

from lora_probe.source.tensors import TensorInfo
from tests.census.quirks import ARGUMENTS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["Unbuildable", "build_type", "model_types", "saved_tensors"]

_MAPPINGS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)
"""Where a class is looked for, the likeliest to be fine-tuned first."""


class Unbuildable(Exception):
    """A model type without a default model that can be built here; says why."""


def model_types() -> tuple[str, ...]:
    """Return every model type that has a config class, sorted."""
    return tuple(sorted(configuration_auto.CONFIG_MAPPING_NAMES))


def build_type(model_type: str) -> nn.Module:
    """Build the default model of a type: causal LM, else image-text-to-text, else seq2seq, else base.

    A class that refuses a composite config gives way to the next, in the end to itself over the text part.

    Raises:
        Unbuildable: no class, a missing library, or a default config that no class accepts.

    """
    names = list(_class_names(model_type))
    if not names:
        raise Unbuildable("no causal LM, image-text-to-text, seq2seq or base class")
    try:
        config = _config(model_type)
    except (ValueError, StrictDataclassError) as error:
        raise Unbuildable(_reason(error)) from error
    attempts = [*((name, config) for name in names), (names[0], config.get_text_config(decoder=True))]
    results = (_build(name, each) for name, each in attempts)
    refusals = []
    for result in results:
        if not isinstance(result, str):
            return result
        refusals.append(result)
    raise Unbuildable(refusals[0])


def _build(class_name: str, config: Any) -> nn.Module | str:
    """Return the model on the meta device, or why the class refuses the config."""
    try:
        with torch.device("meta"):
            model: nn.Module = getattr(transformers, class_name)._from_config(deepcopy(config))
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        return f"{class_name}: {_reason(error)}"
    return model


def _class_names(model_type: str) -> Iterator[str]:
    for mapping in _MAPPINGS:
        names = getattr(modeling_auto, mapping).get(model_type, ())
        yield from (names,) if isinstance(names, str) else names[:1]


def _config(model_type: str) -> Any:
    config = configuration_auto.CONFIG_MAPPING[model_type](**ARGUMENTS.get(model_type, {}))
    for dotted, value in SETTINGS.get(model_type, {}).items():
        *parents, name = dotted.split(".")
        holder = config
        for parent in parents:
            holder = getattr(holder, parent)
        if isinstance(holder, dict):
            holder[name] = value
        else:
            setattr(holder, name, value)
    return config


def _reason(error: Exception) -> str:
    """Return the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def saved_tensors(model: nn.Module) -> list[TensorInfo]:
    """Return what the header of a checkpoint of `model` says: tied weights once, buffers that are saved."""
    found: dict[int, TensorInfo] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        code = _CODES[tensor.dtype]
        found.setdefault(id(tensor), TensorInfo(name=name, dtype=code, shape=tuple(tensor.shape)))
    return list(found.values())


_CODES = {
    torch.bfloat16: "BF16", torch.bool: "BOOL", torch.complex64: "C64", torch.float32: "F32",
    torch.float64: "F64", torch.int32: "I32", torch.int64: "I64", torch.uint8: "U8",
}  # fmt: skip
