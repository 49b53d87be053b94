"""What can be trained in a stack, and why something cannot: one sentence for each reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_probe.piloting.engine.stack import is_transposed
from lora_probe.piloting.records import Arm, Candidate, Task, Training
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.engine.observation import Observation

__all__ = ["misplaced_rows", "unstackable"]

_PLAIN = {
    "r", "lora_alpha", "target_modules", "target_parameters", "lora_dropout", "use_rslora", "use_dora",
    "bias", "modules_to_save", "peft_type", "task_type", "inference_mode", "base_model_name_or_path",
    "fan_in_fan_out", "layers_to_transform", "layers_pattern", "exclude_modules", "init_lora_weights",
}  # fmt: skip
"""Arguments of a `LoraConfig` that stacking knows; those that choose modules have done so in exact paths."""
_TOLERANCE = 1e-2
"""Relative: far above what another shape of a product rounds, far below what two tokens differ by."""


def unstackable(
    candidate: Candidate, training: Training, task: Task, modules: Mapping[str, nn.Module]
) -> str | None:
    """Return why a candidate cannot share a pass with others, or None."""
    if candidate.arm is Arm.BASE:
        return None
    if candidate.arm is Arm.FULL:
        return f"{printable(candidate.name)} trains every weight, of which a stack has only one copy"
    if task in (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION):
        return f"{task} trains a new head, of which a stack has only one copy"
    return _by_config(candidate, training) or _by_modules(candidate, modules)


def misplaced_rows(
    stacked: Observation, one: Observation, other: Observation, paths: tuple[str, ...]
) -> str | None:
    """Return why a stack cannot be told apart at a module, or None.

    `stacked` saw the batches of `one` and `other` one after the other: at every module the first half of its
    rows must be those of `one`, the second half those of `other`.
    """
    for path in paths:
        uneven = (
            f"{printable(path)} is not given one row for each token of each trial, "
            "so its input cannot be divided between trials"
        )
        calls = [each.inputs[path] for each in (stacked, one, other)]
        if len(set(map(len, calls))) > 1:
            return uneven
        for together, *apart in zip(*calls, strict=True):
            rows = [each.reshape(-1, each.shape[-1]).float() for each in apart]
            flat = together.reshape(-1, together.shape[-1]).float()
            if {len(flat)} != {2 * len(each) for each in rows}:
                return uneven
            expected = torch.cat(rows)
            if (flat - expected).abs().max() > _TOLERANCE * (expected.abs().max() + _TOLERANCE):
                return f"{printable(path)} is given the trials' rows in an order of its own"
    return None


def _by_config(candidate: Candidate, training: Training) -> str | None:
    name, lora = printable(candidate.name), candidate.lora
    other = sorted(key for key, value in lora.items() if key not in _PLAIN and value)
    one_copy = "of which a stack has only one copy"
    reasons = {
        f"{name} adapts bare parameters (experts), which only PEFT knows how to wrap": (
            candidate.parameters or lora.get("target_parameters")
        ),
        f"{name} uses DoRA, whose magnitudes need the norm of every merged weight": (
            training.use_dora or lora.get("use_dora")
        ),
        f"{name} saves whole modules, {one_copy}": lora.get("modules_to_save"),
        f"{name} trains biases, {one_copy}": lora.get("bias", "none") != "none",
        f"{name} starts from {lora.get('init_lora_weights')!r} instead of PEFT's default": (
            lora.get("init_lora_weights", True) is not True
        ),
        f"{name} uses {', '.join(map(printable, other))}, which only PEFT implements": other,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _by_modules(candidate: Candidate, modules: Mapping[str, nn.Module]) -> str | None:
    for path in candidate.paths:
        module = modules.get(path)
        where = printable(path)
        if module is None:
            return f"{where} is no module of the model, so only PEFT can say what it means"
        weight: Any = getattr(module, "weight", None)
        kind = type(module)
        plain = kind.forward is nn.Linear.forward or is_transposed(module)
        own = "forward" in vars(module) and "_old_forward" not in vars(module)  # not accelerate's
        numbers = isinstance(weight, torch.Tensor)
        if numbers and isinstance(module, nn.Linear) and not _full_numbers(weight):
            return f"{where} holds quantized weights ({kind.__name__}, {weight.dtype})"
        if own or not (numbers and plain):
            return f"{where} is a {kind.__name__}, not a plain linear layer"
    return None


def _full_numbers(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.element_size() > 1
