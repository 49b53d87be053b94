"""The verdict: better, equivalent or unresolved, and what to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import Answer, Confidence, Relation, Verdict
from lora_probe.piloting.sentences import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lora_probe.piloting.cautions import Caution
    from lora_probe.piloting.comparisons import Standings
    from lora_probe.piloting.records import Candidate, Plan

__all__ = ["decide"]

_ALIKE = 1.05
"""How many times the fewest parameters still cost the same."""


def decide(
    plan: Plan, standings: Standings, cautions: Iterable[Caution], *, complete: bool, failed: Sequence[str]
) -> Verdict:
    """Return what the comparisons of the best arm with the other finalists say.

    It is *better* where it is better than every other; *equivalent* where each of the others is either
    equivalent to it or worse, and at least one is equivalent: then the cheapest of these is recommended, by
    parameters, and by adapted weights where those are alike; else *unresolved*, and nothing is recommended.
    Nor is anything where the base is as good as the best arm.
    """
    rivals = standings.rivals
    equivalent = [each.second for each in rivals if each.relation is Relation.EQUIVALENT]
    answer, recommended = Answer.UNRESOLVED, None
    useless = standings.gain is not None and standings.gain <= 0
    if complete and standings.best and rivals and not standings.unresolved and not useless:
        answer = Answer.EQUIVALENT if equivalent else Answer.BETTER
        recommended = _cheapest(plan, [standings.best, *equivalent])
    caveats = tuple(each.note.message for each in cautions if each.doubts_verdict)
    return Verdict(
        answer=answer,
        best=standings.best,
        recommended=recommended,
        equivalent=tuple(sorted(equivalent, key=lambda name: _candidate(plan, name).trainable_parameters)),
        sentence=sentence(plan, standings, recommended, complete=complete, failed=failed),
        confidence=Confidence.LOW if caveats else Confidence.USUAL,
        caveats=caveats,
    )


def _candidate(plan: Plan, name: str) -> Candidate:
    return next(each for each in plan.candidates if each.name == name)


def _cheapest(plan: Plan, names: Sequence[str]) -> str:
    """Return which arm costs least; of several alike the one that stands first, the better one."""
    sizes = {name: _candidate(plan, name).trainable_parameters for name in names}
    alike = [name for name in names if sizes[name] <= _ALIKE * min(sizes.values())]
    return min(alike, key=lambda name: _weights(_candidate(plan, name)))


def _weights(candidate: Candidate) -> int:
    return len(candidate.paths) + len(candidate.parameters)
