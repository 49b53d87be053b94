"""What Text Generation Inference and LoRAX, which share their code for adapters, refuse or ignore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.serving.conditions import (
    bias_trained,
    dora_used,
    layers_left_out,
    modules_saved,
    one_scale,
    other_leaves,
    other_towers,
    scales_differ,
    tokens_trained,
)
from lora_probe.checks.serving.engine import Limit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lora_probe.checks.case import Case
    from lora_probe.checks.rule import Hit


__all__ = ["LAYERS", "limits"]

LAYERS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})


def limits(*, source: str, adapt_head: Collection[str] = ()) -> tuple[Limit, ...]:
    """Return the limits of an engine.

    `source` is its file of adapters; `adapt_head` are the model types for which it adapts lm_head, too.
    """

    def other_layers(case: Case) -> Iterator[Hit]:
        known = LAYERS | {"lm_head"} if case.graph.model_type in adapt_head else LAYERS
        return other_leaves(known)(case)

    return (
        Limit(
            name="layers",
            severity=Severity.ERROR,
            happens="ignores adapters on other layers.",
            why=f"Layers are looked up by name: {', '.join(sorted(LAYERS))}{_also_head(adapt_head)}.",
            fix="Adapt these layers only, or merge the adapter into the model.",
            source=source,
            when=other_layers,
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
            name="tokens",
            severity=Severity.ERROR,
            happens="ignores trained tokens.",
            why="Only A and B are read.",
            fix="Drop trainable_token_indices, or merge the adapter into the model.",
            source=source,
            when=tokens_trained,
        ),
        Limit(
            name="bias",
            severity=Severity.ERROR,
            happens="ignores trained biases.",
            why="Only A and B are read.",
            fix='Set bias="none", or merge the adapter into the model.',
            source=source,
            when=bias_trained,
        ),
        Limit(
            name="scale",
            severity=Severity.ERROR,
            happens="applies one alpha / r to all layers.",
            why="rank_pattern and alpha_pattern are not read.",
            fix="Use one rank and alpha.",
            source=f"{source}, get_scaling_factor",
            when=scales_differ(one_scale, fix="keep one rank and one alpha in all layers"),
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


def _also_head(types: Collection[str]) -> str:
    return f"; lm_head of {' and '.join(sorted(types))}" if types else ""
