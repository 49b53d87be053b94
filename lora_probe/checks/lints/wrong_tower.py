"""Names that hit another tower, too."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

_MAIN = ("text", "decoder", "encoder", "shared")
"""Towers that people mean where they name none."""
_ACCESSORIES = frozenset({"head"})


def _examine(case: Case) -> Iterator[Hit]:
    towers = Counter(site.tower for site in case.sites)
    main = [tower for tower in _MAIN if towers[tower]]
    others = [tower for tower in towers if tower not in _MAIN and tower not in _ACCESSORIES]
    if not main or not others or case.request.chooses_tower:
        return
    counts = ", ".join(f"{towers[tower]} in {tower}" for tower in (*main, *others))
    yield Hit(
        message=f"the targets hit several towers: {counts}",
        paths=tuple(site.path for site in case.sites if site.tower in others),
        fix=f"exclude {' and '.join(map(repr, _roots(case, others)))} with exclude_modules, by an expression "
        "that ends with .*, or choose the tower in the targets",
    )


def _roots(case: Case, towers: list[str]) -> list[str]:
    """Return the paths under which all sites of each tower stand and no site of any other."""
    found = []
    for tower in towers:
        inside = [site.path.split(".") for site in case.graph.sites if site.tower == tower]
        shared = []
        for level in zip(*inside, strict=False):
            if len(set(level)) > 1:
                break
            shared.append(level[0])
        found.append(".".join(shared) or tower)
    return found


RULE = Rule(
    name="wrong-tower",
    severity=Severity.WARNING,
    happens="Names that were meant for the language model also adapt the vision or audio tower, or the "
    "connector.",
    why="A list of names, and all-linear, match wherever the name occurs: most towers call their projections "
    "q_proj and v_proj alike. Servers mostly ignore adapters outside of the language model.",
    fix="Exclude the other tower with exclude_modules, or choose towers in the target grammar "
    "(text:attention).",
    sources=("huggingface/peft#2615", "unslothai/unsloth#5677", "vllm-project/vllm#23796"),
    examine=_examine,
)
