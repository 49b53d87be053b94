"""Everything else for which PEFT raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

_ELSEWHERE = frozenset({"half-fused", "mamba-module", "conv-groups", "unsupported-module", "nothing-matched"})
"""Refusals that a rule of their own explains better."""
_FIXES = {
    "parameter-option": "set lora_dropout=0 and leave DoRA and lora_bias out: experts are adapted as "
    "parameters",
    "attention-dora": "leave use_dora out, or the MultiheadAttention modules",
    "excluded-or-unmatched": "exclude less: what the targets match is excluded or saved in full",
    "all-excluded": "exclude less: exclude_modules matches every module",
    "no-targets": "name target_modules: PEFT has no default for this model type",
    "parameter-of-adapted": "name each weight either in target_modules or in target_parameters",
    "no-parameters": "name target_modules: what PEFT takes by default is lost where it translates the "
    "names of experts",
    "nested-copy": "adapt a module or save it in full, not both",
    "wrapped-adapter": "adapt a module or save it in full, not both",
    "wrapped-container": "name the layers or what holds them, not both",
    "inside-adapted": "name a layer or what lies inside it, not both",
    "tokens-beyond": "resize the embedding first, or name rows that it has",
    "regex": "correct the regular expression",
}


def _examine(case: Case) -> Iterator[Hit]:
    refusal = case.refusal
    if refusal is not None and refusal.rule not in _ELSEWHERE:
        yield Hit(
            message=f"PEFT refuses this: {refusal.reason}",
            paths=refusal.where,
            fix=_FIXES.get(refusal.rule, ""),
        )


RULE = Rule(
    name="peft-refuses",
    severity=Severity.ERROR,
    happens="get_peft_model raises before anything is trained.",
    why="The settings do not fit each other or this model; the message gives PEFT's own reason.",
    fix="Change the setting that the message names.",
    sources=("peft/tuners/tuners_utils.py, BaseTuner.inject_adapter",),
    examine=_examine,
)
