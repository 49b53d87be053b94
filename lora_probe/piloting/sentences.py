"""The verdict as one sentence that needs no statistics to be read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import Relation
from lora_probe.piloting.records import Task
from lora_probe.piloting.statistics import FEWEST_SEEDS
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lora_probe.piloting.comparisons import Standings
    from lora_probe.piloting.outcome import Comparison
    from lora_probe.piloting.records import Plan

__all__ = ["sentence"]

_LANGUAGE = frozenset({Task.CAUSAL_LM, Task.SEQ2SEQ, Task.MASKED_LM})
"""Tasks whose loss has a perplexity."""
_TWO_DIGITS = 10


def sentence(
    plan: Plan, standings: Standings, recommended: str | None, *, complete: bool, failed: Sequence[str]
) -> str:
    """Return what the pilot says; differences of language models as shares of perplexity, others in nats."""
    useless = standings.gain is not None and standings.gain <= 0
    if complete and useless:
        return (
            "Adapt nothing yet: no set made the model better on unseen examples than it was; look at the "
            f"learning rates, the steps and the data ({plan.training.steps} steps)."
        )
    if not complete or not standings.rivals:
        return _without_answer(standings, complete=complete, failed=failed)
    budget = _budget(plan, standings)
    if recommended is None:
        return _unresolved(plan, standings, budget)
    if any(each.relation is Relation.EQUIVALENT for each in standings.rivals):
        return _equivalent(plan, standings, recommended, budget)
    return _better(plan, standings, recommended, budget)


def _without_answer(standings: Standings, *, complete: bool, failed: Sequence[str]) -> str:
    best = standings.best and _listed([standings.best])
    if not complete:
        known = f"so far {best} has the lowest loss on unseen examples" if best else "no arm came to the end"
        return f"No answer yet: {known}."
    why = f" ({_listed(failed)} failed)" if failed else ""
    known = f"only {best} came to the end, and it has no rival" if best else "no arm came to the end"
    return f"No answer: {known}{why}."


def _better(plan: Plan, standings: Standings, recommended: str, budget: str) -> str:
    rivals = standings.rivals
    closest = min(rivals, key=lambda each: abs(each.difference))
    others = "the other finalist" if len(rivals) == 1 else f"each of the {len(rivals)} other finalists"
    return (
        f"Adapt {_listed([recommended])}: at this pilot's budget it is better on unseen examples than "
        f"{others}; the closest, {_listed([closest.second])}, has {_span(plan, closest)} ({budget})."
    )


def _equivalent(plan: Plan, standings: Standings, recommended: str, budget: str) -> str:
    equal = [str(standings.best), *_related(standings.rivals, Relation.EQUIVALENT)]
    beaten = _related(standings.rivals, Relation.BETTER)
    also = f", and {_listed(beaten)} {'is' if len(beaten) == 1 else 'are'} worse" if beaten else ""
    return (
        f"Adapt {_listed([recommended])}: at this pilot's budget {_listed(equal)} do equally well on unseen "
        f"examples, within {_amount(plan, plan.protocol.margin)}{also}, and it is the cheapest ({budget})."
    )


def _unresolved(plan: Plan, standings: Standings, budget: str) -> str:
    widest = max(standings.unresolved, key=lambda each: each.family_high - each.family_low)
    names = _listed([each.second for each in standings.unresolved])
    which = "it" if len(standings.unresolved) == 1 else _listed([widest.second])
    return (
        f"No winner at this pilot's budget: {_listed([str(standings.best)])} has the lowest loss on unseen "
        f"examples, but it cannot be told from {names}: {which} may have {_span(plan, widest)}; more seeds "
        f"or test examples can settle it ({budget})."
    )


def _related(rivals: Iterable[Comparison], relation: Relation) -> list[str]:
    return [each.second for each in rivals if each.relation is relation]


def _budget(plan: Plan, standings: Standings) -> str:
    seeds, items = len(standings.seeds), standings.pairs[0].items
    covered = "" if seeds >= FEWEST_SEEDS else " over test examples only"
    return (
        f"{plan.training.steps} steps, {seeds} seed{'' if seeds == 1 else 's'}, {items} test examples, "
        f"{100 * plan.protocol.confidence:g}% confidence{covered}"
    )


def _span(plan: Plan, comparison: Comparison) -> str:
    """Return how much worse the second arm is: both ends of the interval that holds for all at once."""
    low, high = -comparison.family_high, -comparison.family_low
    what = "perplexity" if plan.data.task in _LANGUAGE else "loss"
    if low < 0 < high:
        return f"between {_amount(plan, low)} less and {_amount(plan, high)} more {what}"
    return f"between {_amount(plan, low)} and {_amount(plan, high)} {'more' if high > 0 else 'less'} {what}"


def _amount(plan: Plan, nats: float) -> str:
    """Return the size of a difference for a reader: what it does to perplexity, or nats."""
    if plan.data.task not in _LANGUAGE:
        return f"{abs(nats):.2g} nats"
    percent = abs(100 * math.expm1(min(nats, 100.0)))
    return f"{percent:.2g}%" if percent < _TWO_DIGITS else f"{percent:,.0f}%"


def _listed(names: Sequence[str]) -> str:
    *most, last = (printable(name, limit=60) for name in names)
    return f"{', '.join(most)} and {last}" if most else last
