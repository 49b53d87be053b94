"""For trainers that hand their configuration to PEFT: what PEFT gets must train exactly what is wanted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules import predict
from lora_probe.peft_rules.matching import pattern_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.exporting.plan import Plan
    from lora_probe.peft_rules import LoraSettings, Prediction

__all__ = ["as_expression", "fault", "first_exact"]

_Trained = dict[str, tuple[int, float]]
"""Rank and alpha of each adapter, by the name of its weight."""


def first_exact(plan: Plan, forms: Iterable[LoraSettings], *, otherwise: str) -> LoraSettings:
    """Return the first of `forms`, each as the trainer hands it to PEFT, that trains what `plan` wants.

    Raises:
        NotExportable: none does; `otherwise` says which words the trainer has.

    """
    reason = ""
    for form in forms:
        found = fault(plan, form)
        if found is None:
            return form
        reason = reason or found
    raise plan.refusal(f"{otherwise}{f', and so {reason}' if reason else ''}")


def fault(plan: Plan, handed_over: LoraSettings) -> str | None:
    """Return how what PEFT makes of `handed_over` differs from what `plan` wants, None where it does not."""
    try:
        prediction = predict(plan.inventory, handed_over)
    except PeftRefusal as refusal:
        return f"PEFT would refuse: {refusal.reason}"
    found, wanted = _adapters(prediction), _adapters(plan.prediction)
    if extra := sorted(found.keys() - wanted.keys()):
        return f"{extra[0]} would be adapted, too"
    if missing := sorted(wanted.keys() - found.keys()):
        return f"{missing[0]} would be left out"
    if changed := sorted(name for name in wanted if found[name] != wanted[name]):
        name = changed[0]
        return f"{name} would get rank {found[name][0]} and alpha {found[name][1]:g}"
    if (prediction.saved, prediction.tokens) != (plan.prediction.saved, plan.prediction.tokens):
        return "other modules would be trained in full"
    return None


def as_expression(names: Iterable[str]) -> str:
    """Return the regular expression that PEFT reads as it reads a list of `names`."""
    words = [re.escape(name) for name in names]
    return rf"(.*\.)?({'|'.join(words)})" if len(words) > 1 else rf"(.*\.)?{words[0]}"


def _adapters(prediction: Prediction) -> _Trained:
    settings = prediction.settings
    found: _Trained = {}
    for adapter in prediction.adapters:
        name = adapter.site.parameter if adapter.site else adapter.key
        key = pattern_key(settings.alpha_pattern, adapter.key)
        found[name] = (adapter.rank, settings.alpha if key is None else settings.alpha_pattern[key])
    return found
