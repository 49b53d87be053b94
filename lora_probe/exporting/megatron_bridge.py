"""Megatron-Bridge: a `CanonicalLoRA`, `LoRA` or `DoRA` in Python.

Source: `megatron/bridge/peft/` of megatron-bridge 0.3. Its models hold q, k and v in one weight, and gate
and up. `CanonicalLoRA` gives each of these an adapter of its own, as PEFT does where they are separate
layers; its forward pass calls all of them, so that it takes all or none of q, k and v, and of gate and up.
`LoRA` and `DoRA` adapt the fused weight, as PEFT does where the model has it fused, too. Layers are
numbered anew in each stage of a pipeline, so that none are named here. Alphas are whole numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.exporting.by_role import check_one_rank, whole_roles
from lora_probe.exporting.documents import call_text

if TYPE_CHECKING:
    from lora_probe.exporting.by_role import Role
    from lora_probe.exporting.plan import Plan

__all__ = ["write"]

MODEL_TYPES = frozenset({"gemma", "gemma2", "gemma3_text", "llama", "mistral", "nemotron", "qwen2", "qwen3"})
"""Types of dense language models that it converts."""
_SPLIT = (
    {("attention", "q"): "linear_q", ("attention", "k"): "linear_k", ("attention", "v"): "linear_v"},
    {("mlp", "gate"): "linear_fc1_gate", ("mlp", "up"): "linear_fc1_up"},
)
"""Parts of a fused weight, by the weight: adapted together or not at all."""
_WHOLE = {("attention", "o"): "linear_proj", ("mlp", "down"): "linear_fc2"}
_GATE, _UP = ("mlp", "gate"), ("mlp", "up")


def write(plan: Plan) -> str:
    """Return the statements that make the adapter's configuration.

    Raises:
        NotExportable: Megatron-Bridge has no such model or option, or no names for these targets.

    """
    plan.allow_only("use_dora", "task_type")
    plan.allow_tasks("CAUSAL_LM")
    if plan.graph.model_type not in MODEL_TYPES:
        raise plan.refusal(f"its names are not known for models of type {plan.graph.model_type}")
    check_one_rank(plan)
    names = _names(plan, whole_roles(plan))
    split = any(name in part.values() for name in names for part in _SPLIT)
    if split and plan.settings.use_dora:
        raise plan.refusal("its DoRA adapts q, k and v as one weight, and gate and up")
    kind, module = "LoRA", "lora"
    if split:
        kind, module = "CanonicalLoRA", "canonical_lora"
    elif plan.settings.use_dora:
        kind, module = "DoRA", "dora"
    keywords: dict[str, Any] = {
        "target_modules": names,
        "dim": plan.settings.rank,
        "alpha": plan.whole_alpha(),
        "dropout": plan.settings.dropout,
    }
    start = f"from megatron.bridge.peft.{module} import {kind}\n\npeft = {kind}("
    return call_text(plan.header(), start, (), keywords)


def _names(plan: Plan, roles: frozenset[Role]) -> list[str]:
    gated = any((site.block, site.part) == _GATE for site in plan.graph.sites)
    words = {**_SPLIT[0], **_WHOLE, **(_SPLIT[1] if gated else {_UP: "linear_fc1"})}
    if unknown := [site.path for site in plan.sites if (site.block, site.part) not in words]:
        raise plan.refusal("it has no name for these layers", unknown)
    for parts in _SPLIT:
        if not gated and _GATE in parts:
            continue
        missing = [part for block, part in parts if (block, part) not in roles]
        if missing and len(missing) < len(parts):
            together = ", ".join(part for _, part in parts)
            raise plan.refusal(f"it adapts {together} together, and {', '.join(missing)} would be left out")
    names = [name for role, name in words.items() if role in roles]
    if "linear_fc1" in names and "linear_q" in names:
        raise plan.refusal(
            "it adapts an ungated MLP's linear_fc1 only where q, k and v are one weight or left out"
        )
    return names
