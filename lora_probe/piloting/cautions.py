"""What a reader must know before taking a pilot at its word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.graph import Note
from lora_probe.piloting.curves import crossings
from lora_probe.piloting.outcome import Relation, Status
from lora_probe.piloting.records import Arm
from lora_probe.piloting.statistics import FEWEST_SEEDS
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lora_probe.piloting.comparisons import Standings
    from lora_probe.piloting.ledger import Ledger
    from lora_probe.piloting.outcome import LeaderboardRow, LearningRateCurve, RerunNoise
    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Plan

__all__ = ["Caution", "cautions", "dead_adapters", "forgets_more"]

FEWEST_ITEMS = 256
"""Test examples below which an interval is wider than most differences between target sets."""
BITS_PER_PARAMETER, BITS_PER_TOKEN = 2, 1
"""What a parameter can hold (Allen-Zhu & Li, *Physics of Language Models* 3.3, 2024), and about what a token
of a fine-tuning set holds that a model did not know."""
_UNEQUAL = 0.1
"""Share by which finalists' parameters may differ before they are called unequal."""

_SHOWN = 3
"""Paths that a warning names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caution:
    """One warning."""

    note: Note
    doubts_verdict: bool
    """Whether it lowers the confidence in the answer."""


def cautions(
    plan: Plan,
    *,
    progress: Progress,
    ledger: Ledger,
    standings: Standings,
    rows: Sequence[LeaderboardRow],
    rates: Sequence[LearningRateCurve],
    noise: RerunNoise | None,
) -> tuple[Caution, ...]:
    """Return every warning that the results call for, the doubts about the verdict first."""
    found = [
        *_of_the_verdict(plan, standings, noise),
        *_of_curves(plan, progress, ledger, standings),
        *_of_learning_rates(standings, rates),
        *_of_failures(plan, ledger, rows),
        *_of_dead_adapters(dead_adapters(ledger), progress),
        *_of_sizes(plan, standings, rows),
    ]
    return tuple(sorted(found, key=lambda each: not each.doubts_verdict))


def dead_adapters(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """Return, by candidate, adapters without gradient in all stretches that were watched of some trial."""
    dead: dict[str, dict[str, None]] = {}
    for trial in ledger.trials():
        stretches = [set(each.dead) for each in ledger.trained(trial) if each.dead is not None]
        always = set.intersection(*stretches) if stretches else set()
        if always:
            dead.setdefault(trial.candidate, {}).update(dict.fromkeys(sorted(always)))
    return {name: tuple(paths) for name, paths in dead.items()}


def forgets_more(plan: Plan, rows: Iterable[LeaderboardRow], recommended: str | None) -> Note | None:
    """Return a word on the recommended arm where another finalist forgets less, by more than the margin."""
    forgotten = {row.candidate: row.forgotten for row in rows if row.place and row.forgotten is not None}
    if recommended is None or recommended not in forgotten:
        return None
    least = min(forgotten, key=forgotten.__getitem__)
    ours, theirs = forgotten[recommended], forgotten[least]
    if not ours - theirs > plan.protocol.margin:
        return None
    message = (
        f"{_name(recommended)} forgets more than {_name(least)}: its loss on the retention text is "
        f"{ours:+.4f} nats per token from the base's, that of {_name(least)} {theirs:+.4f}; the verdict does "
        "not weigh this"
    )
    return Note(code="forgets-more", message=message)


def _of_the_verdict(plan: Plan, standings: Standings, noise: RerunNoise | None) -> Iterator[Caution]:
    bases = {each.name for each in plan.candidates if each.arm is Arm.BASE}
    if not standings.rivals:
        return
    seeds, items = len(standings.seeds), standings.rivals[0].items
    if seeds < FEWEST_SEEDS:
        yield _doubt(
            "few-seeds",
            f"with {seeds} seed{'' if seeds == 1 else 's'} the intervals cover evaluation sampling only: "
            f"another seed may answer otherwise; {FEWEST_SEEDS} or more let a pilot see that",
        )
    if items < FEWEST_ITEMS:
        yield _word(
            "few-items", f"{items} test examples are few; {FEWEST_ITEMS} or more narrow the intervals"
        )
    if standings.gain is not None and standings.gain <= 0:
        yield _doubt(
            "no-gain",
            "no arm is better than the model as it is: look at the learning rates, the steps and the data",
        )
    against_base = next((each for each in standings.against_best if each.second in bases), None)
    if against_base and against_base.difference < 0 and against_base.relation is not Relation.BETTER:
        weight = "does not matter" if against_base.relation is Relation.EQUIVALENT else "may be chance"
        yield _doubt(
            "small-gain",
            f"{_name(against_base.first)} is {-against_base.difference:.2g} nats better than the model as it "
            f"is, which {weight}: what differs between the sets may show only after more steps",
        )
    closest = min(abs(each.difference) for each in standings.rivals)
    if noise and noise.difference >= closest and not noise.identical:
        yield _doubt(
            "rerun-noise",
            f"two equal runs of {_name(noise.trial.candidate)} differ by {noise.difference:.2g} nats, "
            f"no less than the best two arms do ({closest:.2g})",
        )


def _of_curves(plan: Plan, progress: Progress, ledger: Ledger, standings: Standings) -> Iterator[Caution]:
    if standings.best is None:
        return
    for other in crossings(plan, progress, ledger, standings.best, standings.places[1:]):
        yield _doubt(
            "crossing-curves",
            f"{_name(other)} was ahead of {_name(standings.best)} in the second half of training: their "
            "curves cross, and a longer run may turn the order round",
        )


def _of_learning_rates(standings: Standings, rates: Iterable[LearningRateCurve]) -> Iterator[Caution]:
    for curve in rates:
        if curve.chosen is not None and not curve.resolved:
            message = f"{_name(curve.candidate)}: {curve.note}; a better one may change its place"
            make = _doubt if curve.candidate in standings.places else _word
            yield make("learning-rate-unresolved", message)


def _of_failures(plan: Plan, ledger: Ledger, rows: Iterable[LeaderboardRow]) -> Iterator[Caution]:
    for row in rows:
        if row.status is Status.FAILED:
            yield _doubt(
                "arm-failed", f"{_name(row.candidate)} has no result: {row.note or 'every trial failed'}"
            )
        elif row.status is Status.FINALIST and len(row.seeds) < len(plan.protocol.seeds):
            yield _doubt("seed-lost", f"{_name(row.candidate)} has {row.note}")
    failed = {each.trial.candidate for each in ledger.failures()}
    for candidate in plan.candidates:
        if candidate.arm is Arm.FULL and candidate.name in failed:
            yield _word("full-failed", "full fine-tuning failed, at least once: regret may be unknown")


def _of_dead_adapters(dead: Mapping[str, tuple[str, ...]], progress: Progress) -> Iterator[Caution]:
    for name, paths in dead.items():
        shown = ", ".join(map(printable, paths[:_SHOWN]))
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        make = _doubt if name in progress.finalists else _word
        yield make("dead-adapters", f"{_name(name)} has adapters that never got a gradient: {shown}{more}")


def _of_sizes(plan: Plan, standings: Standings, rows: Iterable[LeaderboardRow]) -> Iterator[Caution]:
    sizes = {row.candidate: row.trainable_parameters for row in rows}
    compared = [sizes[name] for name in standings.places]
    if plan.protocol.equal == "parameters" and compared and max(compared) > (1 + _UNEQUAL) * min(compared):
        yield _word(
            "unequal-parameters",
            f"the finalists train from {min(compared):,} to {max(compared):,} parameters, not equally many",
        )
    for name in standings.places:
        if sizes[name] * BITS_PER_PARAMETER < plan.data.train_tokens * BITS_PER_TOKEN:
            yield _word(
                "capacity",
                f"{_name(name)} trains {sizes[name]:,} parameters for {plan.data.train_tokens:,} tokens "
                f"of data: at about {BITS_PER_PARAMETER} bits a parameter and {BITS_PER_TOKEN} a token, "
                "training on all of them may want a higher rank than this pilot can show",
            )


def _doubt(code: str, message: str) -> Caution:
    return Caution(note=Note(code=code, message=message), doubts_verdict=True)


def _word(code: str, message: str) -> Caution:
    return Caution(note=Note(code=code, message=message), doubts_verdict=False)


def _name(candidate: str) -> str:
    return printable(candidate, limit=60)
