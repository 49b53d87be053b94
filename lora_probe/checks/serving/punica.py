"""What Text Generation Inference and LoRAX, which share their code for adapters, refuse or ignore."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.serving.conditions import (
    dora_used,
    layers_left_out,
    modules_saved,
    other_leaves,
    other_towers,
    scales_differ,
)
from lora_probe.checks.serving.engine import Limit

if TYPE_CHECKING:
    from collections.abc import Collection

    from lora_probe.peft_rules import LoraSettings

__all__ = ["LAYERS", "limits"]

LAYERS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})


def limits(layers: Collection[str], *, source: str) -> tuple[Limit, ...]:
    """Return the limits of an engine that adapts `layers`; `source` is its file of adapters."""
    return (
        Limit(
            name="layers",
            severity=Severity.ERROR,
            happens="ignores adapters on other layers.",
            why=f"Layers are looked up by name: {', '.join(sorted(layers))}.",
            fix="Adapt these layers only, or merge the adapter into the model.",
            source=source,
            when=other_leaves(layers),
        ),
        Limit(
            name="all-layers",
            severity=Severity.ERROR,
            happens="drops a name in all layers if one layer has no adapter for it.",
            why="The factors of all layers are stacked into one tensor; where one is missing there is none.",
            fix="Adapt a name in every layer or in none.",
            source=f"{source}, LoraWeights",
            when=layers_left_out,
        ),
        Limit(
            name="dora",
            severity=Severity.ERROR,
            happens="ignores the magnitudes of DoRA.",
            why="Only A and B are read; what is served is another adapter than the one trained.",
            fix="Train without use_dora, or merge the adapter into the model.",
            source=source,
            when=dora_used,
        ),
        Limit(
            name="modules-to-save",
            severity=Severity.ERROR,
            happens="ignores full copies of modules.",
            why="Only A and B are read.",
            fix="Drop modules_to_save, or merge the adapter into the model.",
            source=source,
            when=modules_saved,
        ),
        Limit(
            name="scale",
            severity=Severity.ERROR,
            happens="applies one alpha / r to all layers.",
            why="rank_pattern and alpha_pattern are not read.",
            fix="Use one rank and alpha.",
            source=f"{source}, get_scaling_factor",
            when=scales_differ(_scale, fix="keep one rank and one alpha in all layers"),
        ),
        Limit(
            name="towers",
            severity=Severity.WARNING,
            happens="loads adapters for the language model only.",
            why="Layers are taken from the language model of a multimodal one.",
            fix="Adapt the language model only.",
            source=source,
            when=other_towers("adapt the language model only"),
        ),
    )


def _scale(settings: LoraSettings, _rank: int) -> float:
    return settings.alpha / (sqrt(settings.rank) if settings.use_rslora else settings.rank)
