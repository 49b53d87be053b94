"""Which arms are compared with which, on the test part, and which of them is best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import DifferentItems
from lora_probe.piloting.outcome import Relation
from lora_probe.piloting.protocol import base_trial
from lora_probe.piloting.records import Arm, Split, Trial
from lora_probe.piloting.statistics import Losses, compare_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.ledger import Ledger
    from lora_probe.piloting.outcome import Comparison
    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Candidate, Evaluated, Plan

__all__ = ["Standings", "Tested", "compare", "results_by_seed"]

Tested = dict[int, "Evaluated"]
"""The losses of one arm on the test part at its chosen learning rate, by seed."""

_SEEN_FROM_THE_OTHER = {Relation.BETTER: Relation.WORSE, Relation.WORSE: Relation.BETTER}


@dataclass(frozen=True, kw_only=True, slots=True)
class Standings:
    """The arms that were compared."""

    best: str | None
    """The one with the lowest loss; None where no two can be compared."""
    places: tuple[str, ...]
    """Best first."""
    seeds: tuple[int, ...]
    """That all of them have."""
    pairs: tuple[Comparison, ...]
    against_best: tuple[Comparison, ...]
    """The best one against each other, by place, then against the base and full fine-tuning."""
    gain: float | None = None
    """Nats per token that the best one is better than the base; None without a base."""

    @property
    def rivals(self) -> tuple[Comparison, ...]:
        """The best one against each other finalist, without the references."""
        return tuple(each for each in self.against_best if each.in_family)

    @property
    def unresolved(self) -> tuple[Comparison, ...]:
        """Those of them that leave open which arm is better."""
        resolved = (Relation.BETTER, Relation.EQUIVALENT)
        return tuple(each for each in self.rivals if each.relation not in resolved)


def results_by_seed(
    plan: Plan, ledger: Ledger, candidate: Candidate, rate: float | None, *, split: Split = Split.TEST
) -> Tested:
    """Return what an arm lost on the test part at one learning rate, by seed; the base with every seed.

    `split` may name another part that is measured at the end.
    """
    if candidate.arm is Arm.BASE:
        trial = base_trial(plan)
        once = ledger.evaluated(trial, 0, split) if trial else None
        return dict.fromkeys(plan.protocol.seeds, once) if once else {}
    if rate is None:
        return {}
    trials = (Trial(candidate=candidate.name, learning_rate=rate, seed=seed) for seed in plan.protocol.seeds)
    found = ((each.seed, ledger.evaluated(each, plan.training.steps, split)) for each in trials)
    return {seed: result for seed, result in found if result}


def compare(plan: Plan, progress: Progress, tested: Mapping[str, Tested]) -> Standings:
    """Return the comparisons of all finalists with each other, and of the best one with the references.

    They are compared over the seeds that all of them have. An arm that lost a seed stays out where at least
    two have them all: one that lost its worst seed would gain by it.
    """
    arms = {each.name: each.arm for each in plan.candidates}
    rivals = {
        name: tested[name] for name in progress.finalists if tested.get(name) and arms[name] is Arm.LORA
    }
    whole = {name: each for name, each in rivals.items() if len(each) == len(plan.protocol.seeds)}
    if len(whole) > 1:
        rivals = whole
    seeds = _common_seeds(plan, rivals)
    if not seeds:
        return Standings(best=None, places=(), seeds=(), pairs=(), against_best=())
    loss = {name: sum(each[seed].loss for seed in seeds) / len(seeds) for name, each in rivals.items()}
    places = tuple(sorted(loss, key=lambda name: (loss[name], name)))
    pairs = _compare(plan, rivals, seeds)
    against = {
        each.second: each
        for each in (_with_first(pair, places[0]) for pair in pairs)
        if each.first == places[0]
    }
    references = [
        pair
        for name, arm in arms.items()
        if arm is not Arm.LORA and tested.get(name)
        for pair in _with_reference(plan, places[0], rivals[places[0]], name, tested[name])
    ]
    return Standings(
        best=places[0],
        places=places,
        seeds=seeds,
        pairs=pairs,
        against_best=(*(against[name] for name in places[1:]), *references),
        gain=next((-each.difference for each in references if arms[each.second] is Arm.BASE), None),
    )


def _with_reference(
    plan: Plan, best: str, of_best: Tested, name: str, reference: Tested
) -> tuple[Comparison, ...]:
    two = {best: of_best, name: reference}
    seeds = _common_seeds(plan, two)
    return _compare(plan, two, seeds, in_family=False) if seeds else ()


def _common_seeds(plan: Plan, tested: Mapping[str, Tested]) -> tuple[int, ...]:
    return tuple(
        seed for seed in plan.protocol.seeds if tested and all(seed in each for each in tested.values())
    )


def _compare(
    plan: Plan, tested: Mapping[str, Tested], seeds: tuple[int, ...], *, in_family: bool = True
) -> tuple[Comparison, ...]:
    items = {each[seed].tokens for each in tested.values() for seed in seeds}
    if len(items) > 1:
        raise DifferentItems(arms=tuple(tested))
    losses = Losses(
        seeds=seeds,
        tokens=next(iter(items)),
        nll={name: tuple(each[seed].nll for seed in seeds) for name, each in tested.items()},
    )
    protocol = plan.protocol
    return compare_pairs(
        losses,
        margin=protocol.margin,
        confidence=protocol.confidence,
        resamples=protocol.resamples,
        in_family=in_family,
    )


def _with_first(pair: Comparison, name: str) -> Comparison:
    """Return the same comparison, seen from the other side where `name` is second."""
    if pair.second != name:
        return pair
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        difference=-pair.difference,
        low=-pair.high,
        high=-pair.low,
        family_low=-pair.family_high,
        family_high=-pair.family_low,
        relation=_SEEN_FROM_THE_OTHER.get(pair.relation, pair.relation),
    )
