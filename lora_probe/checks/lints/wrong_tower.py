"""Names that hit another tower, too."""

from __future__ import annotations

import re
from collections import Counter
from itertools import accumulate
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
    sites = [site for site in case.sites if site.block != "head"]  # which is a finding of its own
    towers = Counter(site.tower for site in sites)
    main = [tower for tower in _MAIN if towers[tower]]
    others = [tower for tower in towers if tower not in _MAIN and tower not in _ACCESSORIES]
    if not main or not others or case.request.chooses_tower:
        return
    counts = ", ".join(f"{towers[tower]} in {tower}" for tower in (*main, *others))
    hit = [site.path for site in sites if site.tower in others]
    roots = "|".join(map(re.escape, _roots(case, hit, main)))
    yield Hit(
        message=f"the targets hit several towers: {counts}",
        paths=tuple(hit),
        fix=f'add exclude_modules="({roots})(\\..*)?", or choose the tower: {main[0]}:attention',
    )


def _roots(case: Case, paths: list[str], main: list[str]) -> list[str]:
    """Return the shortest beginnings of `paths` under which nothing of the main towers stands."""
    inside = {start for site in case.graph.sites if site.tower in main for start in _beginnings(site.path)}
    found = (next(start for start in _beginnings(path) if start not in inside) for path in paths)
    return list(dict.fromkeys(found))


def _beginnings(path: str) -> Iterator[str]:
    """Yield the first segment of `path`, the first two, and so on."""
    return accumulate(path.split("."), lambda start, segment: f"{start}.{segment}")


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
