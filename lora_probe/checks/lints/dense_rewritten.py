"""Shared experts and dense layers that PEFT's translation of expert names takes away."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case
    from lora_probe.graph import Site

_WORDS = {"mlp": "dense feed-forward", "shared_experts": "shared-expert", "attention": "attention"}


def _examine(case: Case) -> Iterator[Hit]:
    if case.prediction is None:
        return
    lost = [site for site in case.written_sites if site.parameter not in case.adapted]
    if not lost:
        return
    blocks = Counter(_WORDS.get(site.block, site.block.replace("_", " ")) for site in lost)
    counts = " and ".join(f"{count} {block}" for block, count in blocks.items())
    yield Hit(
        message=f"{counts} layer{'s' if len(lost) > 1 else ''} that the targets name get no adapter: PEFT "
        "turns their names into those of the expert parameters",
        paths=tuple(site.path for site in lost),
        fix=f"add target_parameters=[{quoted(_weights(lost))}]",
    )


def _weights(sites: list[Site]) -> tuple[str, ...]:
    """Return the ends of the names of the weights: as parameters, PEFT leaves them alone."""
    return tuple(dict.fromkeys(".".join(site.parameter.split(".")[-3:]) for site in sites))


RULE = Rule(
    name="dense-rewritten",
    severity=Severity.ERROR,
    happens="Shared experts or dense layers lose the adapters that the targets name, silently.",
    why="For 29 mixture-of-experts types PEFT rewrites every name that ends like an expert's projection "
    "(gate_proj, up_proj, down_proj, w1, w2, w3) into the fused expert parameter, also where a shared expert "
    "or a dense layer bears the same name as an ordinary linear layer.",
    fix="Name their weights as target_parameters: shared_experts.gate_proj.weight and so on.",
    sources=(
        "huggingface/peft#3711",
        "peft/utils/transformers_weight_conversion.py, _convert_peft_config_moe",
    ),
    examine=_examine,
)
