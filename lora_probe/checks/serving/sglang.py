"""What SGLang's loading of adapters refuses, ignores or scales wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit
from lora_probe.checks.serving.conditions import (
    dora_used,
    expression_given,
    leaf_of,
    modules_saved,
    one_scale,
    other_leaves,
    other_towers,
    scales_differ,
    tokens_trained,
)
from lora_probe.checks.serving.engine import Engine, Limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

KNOWN = frozenset(
    {
        "qkv_proj", "o_proj", "out_proj", "in_proj", "in_proj_qkvz", "up_proj", "gate_up_proj", "down_proj",
        "embed_tokens", "lm_head", "fused_qkv_a_proj_with_mqa", "q_b_proj", "kv_b_proj", "fc1_latent_proj",
        "fc2_latent_proj",
    }
)  # fmt: skip
"""Layers that its memory pool can hold (`_KNOWN_LORA_TARGET_MODULES` in sglang/srt/lora/utils.py)."""
SAME = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
    **dict.fromkeys(("q_a_proj", "kv_a_proj_with_mqa"), "fused_qkv_a_proj_with_mqa"),
    **dict.fromkeys(("in_proj_qkv", "in_proj_q", "in_proj_k", "in_proj_v", "in_proj_z"), "in_proj_qkvz"),
}
"""Names that it reads as others (`get_normalized_target_modules`)."""


def _switches(case: Case) -> Iterator[Hit]:
    if not case.adapters:
        return
    names = " ".join(dict.fromkeys(map(leaf_of, case.adapters)))
    rank = max(adapter.rank for adapter in case.adapters)
    yield Hit(
        message=f"the server must be started for rank {rank} and for these layers, or see this adapter when "
        "it starts",
        fix=f"start the server with --max-lora-rank {rank} --lora-target-modules {names}",
    )


def _tokens(case: Case) -> Iterator[Hit]:
    yield from tokens_trained(case)
    yield from modules_saved(case)


ENGINE = Engine(
    name="sglang",
    title="SGLang",
    limits=(
        Limit(
            name="expression",
            severity=Severity.ERROR,
            happens="raises for a regular expression in target_modules.",
            why="The only strings that it reads are all and all-linear.",
            fix="Write a list of names into adapter_config.json; the tensors stay as they are.",
            source="sglang/srt/lora/utils.py, get_normalized_target_modules",
            when=expression_given,
        ),
        Limit(
            name="dora",
            severity=Severity.ERROR,
            happens="refuses DoRA.",
            why="Magnitude vectors have no place in its kernels.",
            fix="Train without use_dora, or merge the adapter into the model.",
            source="sglang/srt/lora/lora_manager.py, validate_new_adapter",
            when=dora_used,
        ),
        Limit(
            name="tokens",
            severity=Severity.ERROR,
            happens="refuses adapters that add tokens, and loads no full copies.",
            why="Only low-rank factors are loaded, for the vocabulary that the base model has.",
            fix="Drop trainable_token_indices and modules_to_save, or merge the adapter into the model.",
            source="sglang/srt/lora/lora_manager.py, validate_new_adapter",
            when=_tokens,
        ),
        Limit(
            name="layers",
            severity=Severity.ERROR,
            happens="cannot hold adapters on other layers than it knows; routers and linear attention are "
            "among them.",
            why="Its memory pool is laid out by name, and the shapes of unknown names are not implemented.",
            fix="Leave these layers out, or merge the adapter into the model.",
            source="sgl-project/sglang#16550, sglang/srt/lora/utils.py",
            when=other_leaves(KNOWN, same=SAME),
        ),
        Limit(
            name="towers",
            severity=Severity.WARNING,
            happens="loads adapters for the language model only.",
            why="Layers are taken from the language model of a multimodal one.",
            fix="Adapt the language model only.",
            source="sglang/srt/lora/lora_manager.py, init_lora_modules",
            when=other_towers("adapt the language model only"),
        ),
        Limit(
            name="scale",
            severity=Severity.ERROR,
            happens="applies one alpha / r to all layers, or refuses patterns that differ.",
            why="rank_pattern and alpha_pattern are not applied to single layers.",
            fix="Use one rank and alpha, or patterns that keep the ratio of alpha to rank.",
            source="sglang/srt/lora/lora_config.py, _pattern_overrides",
            when=scales_differ(one_scale, fix="keep alpha / r the same in every layer"),
        ),
        Limit(
            name="switches",
            severity=Severity.INFO,
            happens="refuses, at run time, an adapter that does not fit what the server was started for.",
            why="Its memory pool is sized once, by --max-lora-rank and --lora-target-modules.",
            fix="Start the server with both.",
            source="sglang/srt/lora/lora_manager.py, validate_new_adapter",
            when=_switches,
        ),
    ),
)
