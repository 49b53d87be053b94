"""The sets of a budget that names none: what people compare first, as far as model and PEFT have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.choice import choose
from lora_probe.budgeting.cost import SetCost
from lora_probe.errors import NotExpressible, PeftRefusal, UnmatchedTarget
from lora_probe.graph import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.peft_rules import Inventory

__all__ = ["common_costs"]

_SETS = {
    "qv": ("attention.q", "attention.v"),
    **{block: (block,) for block in ("attention", "ssm", "recurrent", "mlp", "experts")},
}
"""Roles by the name of the set, from few weights to many; all-linear comes last."""


def common_costs(
    inventory: Inventory, options: Mapping[str, Any], *, dtype: str
) -> tuple[dict[str, SetCost], list[Note]]:
    """Return the cost of each common set by its text, no two of equal weights, and what PEFT would refuse.

    Of a model with several towers the language model's sets are meant, except by all-linear, which is PEFT's.

    Raises:
        PeftRefusal: PEFT would refuse every set.
        NotExpressible: PEFT has no words for any of them.

    """
    towers = {site.tower for site in inventory.graph.sites}
    tower = "text:" if "text" in towers and len(towers) > 1 else ""
    texts = ["+".join(f"{tower}{role}" for role in roles) if tower else name for name, roles in _SETS.items()]
    found: dict[frozenset[str], tuple[str, SetCost]] = {}
    refusals: dict[str, PeftRefusal | NotExpressible] = {}
    for text in (*texts, "all-linear"):
        cost = _cost_or_refusal(inventory, text, options, dtype=dtype)
        if isinstance(cost, SetCost):
            found[frozenset(site.parameter for site in cost.wanted)] = (text, cost)
        elif cost is not None:
            refusals[text] = cost
    if refusals and not found:
        raise next(iter(refusals.values()))
    notes = [Note(code="set-refused", message=f"{text}: {refusal}") for text, refusal in refusals.items()]
    return dict(found.values()), notes


def _cost_or_refusal(
    inventory: Inventory, text: str, options: Mapping[str, Any], *, dtype: str
) -> SetCost | PeftRefusal | NotExpressible | None:
    """Return the cost of one set, None where the model has nothing of it, or why PEFT would not take it."""
    try:
        choice = choose(inventory, text, options)
        return SetCost(inventory, choice.settings, dtype=dtype, wanted=choice.sites)
    except UnmatchedTarget:
        return None
    except (PeftRefusal, NotExpressible) as refusal:
        return refusal
