"""The tensors of an adapter's file beside those that its config leads to on a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.budgeting.count import trainable_tensors
from lora_probe.budgeting.stored import stored_tensors
from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules import predict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.checks.adapter import SavedAdapter
    from lora_probe.peft_rules import Inventory, Prediction

__all__ = ["Audit", "audit", "module_of"]

_PREFIX = "base_model.model."
_TENSOR = re.compile(
    r"(\.base_layer)*\.(lora_[AB](\.weight|\.bias)?|lora_embedding_[AB]|lora_magnitude_vector(\.weight)?|weight|bias)$"
)
_OLD_EXPERT = re.compile(r"\.experts\.\d+\.")
_FROM_LAYER = re.compile(r"[^.]+\.\d+\..*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """How a file and its model fit; names of tensors throughout."""

    prediction: Prediction | None
    refusal: PeftRefusal | None
    missing: tuple[str, ...]
    """Tensors that the model will have and the file lacks."""
    extra: tuple[str, ...]
    """Tensors that the file has and the model has no place for."""
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """(shape in the file, shape in the model) of the others that differ."""
    old: tuple[str, ...]
    """Tensors under names of an older transformers, which PEFT translates when it loads them."""


def audit(adapter: SavedAdapter, inventory: Inventory) -> Audit:
    """Return how `adapter` fits the model of `inventory`."""
    try:
        prediction = predict(inventory, adapter.settings)
    except PeftRefusal as refusal:
        return Audit(prediction=None, refusal=refusal, missing=(), extra=(), misshapen={}, old=())
    trained = trainable_tensors(prediction, inventory)
    expected = {
        tensor.name: tensor.shape
        for tensor in stored_tensors(trained, prediction, inventory, dtype="float32")
    }
    optional = expected.keys() - {
        tensor.name for tensor in trained
    }  # saved beside the adapter, not part of it
    missing = [name for name in expected if name not in adapter.tensors and name not in optional]
    extra = [name for name in adapter.tensors if name not in expected]
    old = _old_names(extra, missing)
    return Audit(
        prediction=prediction,
        refusal=None,
        missing=tuple(name for name in missing if name not in old.values() and not _is_fused(name, old)),
        extra=tuple(name for name in extra if name not in old),
        misshapen={
            name: (shape, expected[name])
            for name, shape in adapter.tensors.items()
            if name in expected and shape != expected[name]
        },
        old=tuple(old),
    )


def module_of(tensor: str) -> str:
    """Return the path of the module that a tensor of an adapter belongs to."""
    return _TENSOR.sub("", tensor.removeprefix(_PREFIX))


def _old_names(extra: list[str], missing: list[str]) -> dict[str, str]:
    """Return old name -> new name, or -> nothing for the tensors of single experts.

    The others differ only in what stands before the layer.
    """
    by_end = {found[0]: name for name in missing if (found := _FROM_LAYER.search(name))}
    old = {}
    for name in extra:
        if not name.startswith(_PREFIX):  # PEFT finds nothing without it
            continue
        found = _FROM_LAYER.search(name)
        if _OLD_EXPERT.search(name):
            old[name] = ""
        elif found and found[0] in by_end:
            old[name] = by_end[found[0]]
    return old


def _is_fused(name: str, old: Mapping[str, str]) -> bool:
    """Tell whether `name` is the expert parameter into which old per-expert tensors are fused."""
    return ".experts." in name and "" in old.values()
