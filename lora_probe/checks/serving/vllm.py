"""What vLLM's loading of adapters refuses, ignores or scales wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit
from lora_probe.checks.serving.conditions import (
    adapters_where,
    bias_trained,
    dora_used,
    is_embedding,
    is_expert,
    modules_saved,
    one_scale,
    other_towers,
    scales_differ,
    tokens_trained,
)
from lora_probe.checks.serving.engine import Engine, Limit
from lora_probe.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case
    from lora_probe.peft_rules import Adapter

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of --max-lora-rank (`MaxLoRARanks` in vllm/config/lora.py)."""
DEFAULT_RANK = 16
EMBEDDINGS_LOADED = frozenset({"llama", "mistral"})
"""Model types whose class declares embedding_modules."""
EMBEDDINGS_REFUSED = ("gemma3", "gemma4")
"""Beginnings of model types whose class declares none."""


def _rank(case: Case) -> Iterator[Hit]:
    ranks = [adapter.rank for adapter in case.adapters]
    highest = max(ranks, default=case.settings.rank)
    if highest > RANKS[-1]:
        yield Hit(
            severity=Severity.ERROR,
            message=f"rank {highest} is above the highest that can be set, {RANKS[-1]}",
            fix=f"train at rank {RANKS[-1]} or less, or merge the adapter into the model and serve that",
        )
    elif highest > DEFAULT_RANK:
        enough = next(rank for rank in RANKS if rank >= highest)
        yield Hit(
            message=f"rank {highest} is above the default limit of {DEFAULT_RANK}",
            fix=f"start the server with --max-lora-rank {enough}",
        )


def _is_no_layer(_case: Case, adapter: Adapter) -> bool:
    return adapter.site is not None and adapter.site.kind in {Kind.CONV, Kind.PACKED_ATTENTION}


def _embeddings(case: Case) -> Iterator[Hit]:
    model_type = case.graph.model_type
    if model_type in EMBEDDINGS_LOADED:
        return
    refused = model_type.startswith(EMBEDDINGS_REFUSED)
    ask = adapters_where(
        is_embedding,
        "adapters are on embeddings or the head, for which this model's class declares no support"
        if refused
        else "adapters are on embeddings or the head, which only some model classes declare as supported",
        "leave embeddings and lm_head out",
    )
    for hit in ask(case):
        yield Hit(
            severity=Severity.ERROR if refused else Severity.WARNING,
            message=hit.message,
            paths=hit.paths,
            fix=hit.fix,
        )


def _other_beginning(case: Case) -> Iterator[Hit]:
    moved = [name for name in case.audit.old if ".experts." not in name] if case.audit else []
    if moved:
        yield Hit(
            message=f"{len(moved)} of the adapter's tensors begin otherwise than the model's own names: the "
            "server may find no layer for them",
            paths=tuple(moved),
            fix="load the adapter with a current PEFT on this class and save it again, or rename the tensors",
        )
    if any(note.code == "other-class" for note in case.graph.notes):
        yield Hit(
            message=f"the model was built as {case.graph.architecture}, another class than its config names: "
            "the adapter's names may begin otherwise than the server's",
            fix="train on the class that the config's architectures names",
        )


ENGINE = Engine(
    name="vllm",
    title="vLLM",
    limits=(
        Limit(
            name="rank",
            severity=Severity.WARNING,
            happens="refuses an adapter whose rank is above --max-lora-rank.",
            why=f"The limit is one of {', '.join(map(str, RANKS))}, and {DEFAULT_RANK} by default.",
            fix="Start the server with a --max-lora-rank that is high enough.",
            source="vllm-project/vllm#2847, vllm/config/lora.py",
            when=_rank,
        ),
        Limit(
            name="dora",
            severity=Severity.ERROR,
            happens="refuses DoRA.",
            why="Magnitude vectors have no place in its kernels.",
            fix="Train without use_dora, or merge the adapter into the model.",
            source="vllm/lora/peft_helper.py, PEFTHelper._validate_features",
            when=dora_used,
        ),
        Limit(
            name="modules-to-save",
            severity=Severity.ERROR,
            happens="refuses adapters with modules_to_save.",
            why="Only low-rank factors are loaded.",
            fix="Drop modules_to_save, or merge the adapter into the model.",
            source="vllm-project/vllm#9280, vllm/lora/peft_helper.py",
            when=modules_saved,
        ),
        Limit(
            name="bias",
            severity=Severity.ERROR,
            happens="refuses adapters with trained biases.",
            why="Support for biases was removed.",
            fix='Set bias="none".',
            source="vllm/lora/peft_helper.py, PEFTHelper",
            when=bias_trained,
        ),
        Limit(
            name="tokens",
            severity=Severity.ERROR,
            happens="refuses adapters with trained tokens.",
            why="A tensor that is neither A nor B has a name that it cannot read.",
            fix="Drop trainable_token_indices, or merge the adapter into the model.",
            source="vllm/lora/utils.py, parse_fine_tuned_lora_name",
            when=tokens_trained,
        ),
        Limit(
            name="scale",
            severity=Severity.ERROR,
            happens="applies one alpha / r to all layers.",
            why="rank_pattern and alpha_pattern are not read; layers with a ratio of their own come out too "
            "strong or too weak, without a message.",
            fix="Use one rank and alpha, or patterns that keep the ratio of alpha to rank.",
            source="vllm/lora/peft_helper.py, vllm_lora_scaling_factor",
            when=scales_differ(one_scale, fix="keep alpha / r the same in every layer"),
        ),
        Limit(
            name="layers",
            severity=Severity.ERROR,
            happens="refuses the whole adapter for one tensor of a layer that it cannot adapt.",
            why="Names are checked against its linear and expert layers; convolutions and packed attention "
            "are none.",
            fix="Adapt linear layers only.",
            source="vllm/lora/lora_model.py, check_unexpected_modules",
            when=adapters_where(
                _is_no_layer, "adapters are on convolutions or packed attention", "adapt linear layers only"
            ),
        ),
        Limit(
            name="embeddings",
            severity=Severity.WARNING,
            happens="loads adapters on embeddings and lm_head for some model classes, and refuses them for "
            "others.",
            why="The model's class must declare embedding_modules: Llama's does, Gemma 3's is empty.",
            fix="Leave embeddings and lm_head out.",
            source="vllm/lora/utils.py, get_supported_lora_modules",
            when=_embeddings,
        ),
        Limit(
            name="towers",
            severity=Severity.WARNING,
            happens="ignores adapters in the vision tower and the connector.",
            why="They need a switch of their own and a model class that supports it; else there is only a "
            "warning.",
            fix="Start the server with --enable-tower-connector-lora, or adapt the language model only.",
            source="vllm-project/vllm#23796, vllm/lora/model_manager.py, _maybe_init_mm",
            when=other_towers(
                "start the server with --enable-tower-connector-lora, or adapt the language model only"
            ),
        ),
        Limit(
            name="experts",
            severity=Severity.WARNING,
            happens="drops adapters on fused experts for model classes that expect one pair for each expert.",
            why="PEFT stores one pair of factors for the whole 3-D parameter; only classes with "
            "is_3d_moe_weight read that.",
            fix="Check the server's log for the number of layers applied, or merge the adapter into the "
            "model.",
            source="vllm-project/vllm#41384, vllm/lora/model_manager.py",
            when=adapters_where(
                is_expert,
                "adapters are on fused experts, which only some model classes load",
                "test the served adapter against the base model, or merge it",
            ),
        ),
        Limit(
            name="prefix",
            severity=Severity.WARNING,
            happens="serves the base model without a word where the adapter's names begin otherwise than its "
            "own.",
            why="The adapter was trained on another class of the same checkpoint, such as the text-only one.",
            fix="Train on the class that the config names, or rename the tensors.",
            source="vllm-project/vllm#34186, vllm-project/vllm#48019, vllm-project/vllm#55193",
            when=_other_beginning,
        ),
    ),
)
