"""A key of rank_pattern or alpha_pattern that changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.peft_rules.matching import pattern_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case
    from lora_probe.peft_rules import LoraSettings, Prediction


def _examine(case: Case) -> Iterator[Hit]:
    yield from _unused(case.settings, case.prediction, where="")
    if case.adapter is not None and case.audit is not None and case.adapter.settings != case.settings:
        yield from _unused(case.adapter.settings, case.audit.prediction, where="the adapter's ")


def _unused(settings: LoraSettings, prediction: Prediction | None, *, where: str) -> Iterator[Hit]:
    if prediction is None:
        return
    keys = [adapter.key for adapter in prediction.adapters]
    for field, patterns in (
        ("rank_pattern", settings.rank_pattern),
        ("alpha_pattern", settings.alpha_pattern),
    ):
        used = {pattern_key(patterns, key) for key in keys}
        for pattern in patterns:
            if pattern in used:
                continue
            late = any(pattern_key((pattern,), key) for key in keys)
            yield Hit(
                message=f"{where}{field} key {pattern!r} "
                + ("comes after another that applies first" if late else "matches no adapter"),
                fix=f"put {pattern!r} before the wider keys" if late else f"drop or correct {pattern!r}",
            )


RULE = Rule(
    name="unused-pattern",
    severity=Severity.WARNING,
    happens="Layers that should have a rank or alpha of their own get the common one.",
    why="A key applies where it matches the whole name of the layer, or its end after a dot; the first key "
    "that does wins.",
    fix="Correct the key, or put the narrower keys first.",
    sources=("peft/utils/other.py, get_pattern_key",),
    examine=_examine,
)
