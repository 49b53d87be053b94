"""Hold one prediction against what PEFT did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.count import trainable_parameters, trainable_tensors
from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules import LoraSettings, predict
from tests.oracle.truth import inject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from lora_probe.peft_rules import Inventory
    from tests.oracle.truth import Trained

__all__ = ["MESSAGES", "differences"]

MESSAGES: Mapping[str, str] = {
    "layers-need-names": "cannot be used when `target_modules` is a str",
    "pattern-needs-layers": "`layers_to_transform` must also be specified",
    "dora-bias": "lora_bias=True is not supported for DoRA",
    "rank": "`r` should be a positive integer",
    "bias": "is not implemented",
    "regex": "",
    "empty-name": "should not contain an empty string",
    "half-fused": "without also targeting",
    "no-targets": "Please specify `target_modules` or `target_parameters`",
    "mamba-module": "is incompatible with Mamba-based models",
    "unsupported-module": "is not supported. Currently, only the following modules are supported",
    "embedding-bias": "lora_bias=True is not supported for Embedding",
    "conv-groups": "where the rank is divisible by groups",
    "attention-dora": "MultiheadAttention does not support DoRA",
    "root-parameter": "Targeting an nn.Parameter on the top-level module is not supported",
    "parameter-dimensions": "dimensional Parameter, but only 2d and 3d are supported",
    "parameter-option": "ParamWrapper does not work with",
    "parameter-of-adapted": "Trying to wrap an `nn.Parameter` of layer",
    "no-input-embedding": "`get_input_embeddings` not auto",
    "tie-without-embedding": "has no attribute 'lora_embedding_A'|has no attribute 'modules_to_save'",
    "all-excluded": "All modules were excluded",
    "excluded-or-unmatched": "No modules were targeted for adaptation",
    "no-parameters": "No `target_modules` passed but also no `target_parameters` found",
    "nothing-matched": "not found in the base model",
    "wrapped-adapter": "cannot be applied to modules of type|that is a child of <class 'peft.tuners.lora"
    "|deepcopy protocol",
    "inside-adapted": "has no attribute",
    "wrapped-container": "cannot be applied to modules of type|object has no attribute 'weight'",
    "tokens-saved": "The embedding layer is already marked to be trained fully",
    "tokens-differ": "Cannot ensure weight tying when different token indices",
    "tokens-missing": "not found in the base model",
}
"""What PEFT says where it raises for the same reason as our rule."""

OURS_ALONE = frozenset({"ambiguous-tie", "nested-copy", "tokens-without-rows"})
"""Rules for which PEFT raises late, oddly or not at all: what it would train is an accident."""


def differences(model: nn.Module, inventory: Inventory, fields: Mapping[str, Any]) -> list[str]:
    """Return how the prediction differs from PEFT; nothing where both agree."""
    try:
        prediction = predict(inventory, LoraSettings(**fields))
    except PeftRefusal as refusal:
        return _refusal_differences(refusal, model, fields)
    try:
        truth = inject(model, fields)
    except Exception as error:  # noqa: BLE001 - PEFT raises whatever comes
        return [f"PEFT raises {error!r}"]
    found = [
        f"{what}: {sorted(set(ours) ^ set(theirs))[:6]}"
        for what, ours, theirs in (
            ("modules", {each.key for each in prediction.adapters if not each.parameter}, truth.modules),
            ("parameters", {each.key for each in prediction.adapters if each.parameter}, truth.targets),
        )
        if set(ours) != set(theirs)
    ]
    found += _tensor_differences(
        {tensor.name: tensor for tensor in trainable_tensors(prediction, inventory)}, truth
    )
    counted = trainable_parameters(prediction, inventory)
    if counted != truth.parameters:
        found.append(f"{counted:,} elements, PEFT trains {truth.parameters:,}")
    return found


def _refusal_differences(refusal: PeftRefusal, model: nn.Module, fields: Mapping[str, Any]) -> list[str]:
    if refusal.rule in OURS_ALONE:
        return []
    try:
        inject(model, fields)
    except Exception as error:  # noqa: BLE001
        if any(part in str(error) for part in MESSAGES[refusal.rule].split("|")):
            return []
        return [f"refused for {refusal.rule}, PEFT says {error!r}"]
    return [f"refused for {refusal.rule} ({refusal}), PEFT injects"]


def _tensor_differences(ours: Mapping[str, Any], truth: Trained) -> list[str]:
    """Compare names and shapes: each storage once, under any of its names."""
    found = []
    for name, tensor in ours.items():
        first = truth.aliases.get(name, name)
        if first not in truth.tensors:
            found.append(f"not trained: {name}")
        elif tensor.shape != truth.tensors[first] and not tensor.tied:
            found.append(f"{name} is {truth.tensors[first]}, predicted {tensor.shape}")
    named = {truth.aliases.get(name, name) for name, tensor in ours.items() if not tensor.tied}
    found += [f"not predicted: {name} {shape}" for name, shape in truth.tensors.items() if name not in named]
    return found[:6]
