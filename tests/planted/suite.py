"""Real pilots where the truth is known: `lora_probe.pilot` as anybody calls it, and what was planted."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lora_probe
from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.log import read_history
from lora_probe.piloting.outcome import Answer, Relation
from lora_probe.piloting.records import Candidate, Evaluated, Split
from tests.planted.planting import BUDGET, SETS, plant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.piloting.outcome import Analysis
    from lora_probe.piloting.records import Plan, Result

__all__ = ["PLANTINGS", "Null", "Outcome", "Twins", "nulls", "pilot_on", "plantings", "twins"]

PLANTINGS = 20
NULLS = 4
WORLDS = 10
"""Whose trained twins are compared."""
PROCESSES = 2

OPTIONS: Mapping[str, Any] = {
    "steps": 300,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "max_parameters": BUDGET,
}
"""The same for every planting, none of them chosen for one; all others are the tool's own."""
EXAMPLES = 3600
"""Of which 2,520 are expected to be trained on: more than the steps read, so that none comes twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a pilot said of a planting."""

    number: int
    planted: str
    divergence: float
    entropy: float
    answer: str
    best: str | None
    recommended: str | None
    preferred: tuple[str, ...]
    """Decoys that were called better than the planted set."""
    planted_dropped: bool
    """Halving took the planted set out."""
    finalists: int
    planted_loss: float | None
    base_loss: float
    closest: str | None
    """The finalist next to the best one."""
    difference: float
    low: float
    high: float
    """Of the best one to that, nats per token, with the interval that holds for all pairs."""
    low_confidence: bool
    work_ratio: float
    """Trial-steps of every set x rate x seed, over those that were taken."""
    seconds: float
    """Of the whole call, on one of `PROCESSES` processes with one thread."""

    @property
    def resolved(self) -> bool:
        """Whether the planted set was called better than every other finalist, and recommended."""
        return self.answer == Answer.BETTER and self.best == self.recommended == self.planted


@dataclass(frozen=True, kw_only=True, slots=True)
class Null:
    """What a pilot said of text that the base itself wrote."""

    number: int
    answer: str
    recommended: str | None
    gain: float | None
    """Of the best arm over the base, nats per token."""
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Twins:
    """Verdicts on arms that are one and the same set, trained with seeds that none of them shares."""

    planted: str
    verdicts: int
    any_better: int
    """Some arm was called better than another."""
    answered_better: int
    """The answer was that one arm is better than every other."""
    equivalent: int


def planted_set(number: int) -> str:
    """Return what is planted in one of the plantings: each set in turn."""
    return list(SETS)[number % len(SETS)]


def plantings(numbers: Sequence[int] = range(PLANTINGS)) -> Iterator[Outcome]:
    """Yield what pilots say of plantings, some at a time."""
    yield from _spread(judge, numbers)


def nulls(numbers: Sequence[int] = range(NULLS)) -> Iterator[Null]:
    """Yield what pilots say of text in which nothing was planted."""
    yield from _spread(judge_null, numbers)


def twins(numbers: Sequence[int] = range(WORLDS)) -> Iterator[Twins]:
    """Yield what is said of arms that do not differ."""
    yield from _spread(judge_twins, numbers)


def pilot_on(
    folder: Path, planted: str | None, *, number: int, candidates: Sequence[str] = tuple(SETS), **options: Any
) -> tuple[Analysis, float, float]:
    """Run one pilot; return what it found, and divergence and entropy of the changed model."""
    made = plant(folder, planted, number=number, examples=EXAMPLES)
    chosen: Any = {**OPTIONS, **options}
    report = lora_probe.pilot(made.model, str(made.data), out=folder / "out", candidates=candidates, **chosen)
    return report.analysis, made.divergence, made.entropy


def judge(number: int) -> Outcome:
    """Plant, run the pilot, and hold what it says against what was planted."""
    planted = planted_set(number)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found, divergence, entropy = pilot_on(Path(folder), planted, number=number)
    seconds = time.perf_counter() - start
    rows = {row.candidate: row for row in found.leaderboard}
    next_best = found.comparisons[0]
    return Outcome(
        number=number,
        planted=planted,
        divergence=divergence,
        entropy=entropy,
        answer=str(found.verdict.answer),
        best=found.verdict.best,
        recommended=found.verdict.recommended,
        preferred=tuple(_preferred(found, planted)),
        planted_dropped=planted in {each.candidate for each in found.dropped},
        finalists=sum(row.status == "finalist" for row in found.leaderboard),
        planted_loss=rows[planted].test_loss,
        base_loss=rows["base"].test_loss or 0.0,
        closest=next_best.second,
        difference=next_best.difference,
        low=next_best.family_low,
        high=next_best.family_high,
        low_confidence=found.verdict.confidence == "low",
        work_ratio=found.work.ratio or 0.0,
        seconds=seconds,
    )


def judge_null(number: int) -> Null:
    """Run a pilot on text of the base itself: there is nothing to be learned."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found, _, _ = pilot_on(Path(folder), None, number=1000 + number)
    best = next(row for row in found.leaderboard if row.candidate == found.verdict.best)
    return Null(
        number=number,
        answer=str(found.verdict.answer),
        recommended=found.verdict.recommended,
        gain=best.gain,
        seconds=time.perf_counter() - start,
    )


SEEDS_OF_AN_ARM, ARMS, ITEMS, CHUNKS = 3, 2, 128, 5
FAMILIES = 4


def judge_twins(number: int) -> Twins:
    """Train one set with many seeds, deal them out to arms that thus differ in nothing, and ask for verdicts.

    Of `FAMILIES` groups of arms no two share a seed, and of `CHUNKS` parts of the test items no two share an
    item; a verdict is asked for each group on each part.
    """
    planted = planted_set(number)
    seeds = range(SEEDS_OF_AN_ARM * ARMS * FAMILIES)
    with tempfile.TemporaryDirectory() as folder:
        found, _, _ = pilot_on(
            Path(folder), planted, number=2000 + number, candidates=[planted], seeds=seeds, steps=60,
            grid=(1.0,), rungs=(), extensions=0, rerun=False, evaluations=1, test_items=ITEMS * CHUNKS,
        )  # fmt: skip
        bank = read_history(Path(folder) / "out").results()
    verdicts = [
        verdict
        for family in range(FAMILIES)
        for chunk in range(CHUNKS)
        for verdict in [_verdict_on_twins(found.plan, bank, family, chunk)]
    ]
    return Twins(
        planted=planted,
        verdicts=len(verdicts),
        any_better=sum(
            any(pair.relation in (Relation.BETTER, Relation.WORSE) for pair in each.pairs)
            for each in verdicts
        ),
        answered_better=sum(each.verdict.answer is Answer.BETTER for each in verdicts),
        equivalent=sum(each.verdict.answer is Answer.EQUIVALENT for each in verdicts),
    )


def _verdict_on_twins(plan: Plan, bank: Sequence[Result], family: int, chunk: int) -> Analysis:
    """Return the analysis of a pilot whose arms have disjoint seeds of the same set."""
    names = [f"twin {arm}" for arm in range(ARMS)]
    (adapted,) = (each for each in plan.candidates if each.paths)
    own = {}
    for place in range(ARMS * SEEDS_OF_AN_ARM):
        arm, seed = divmod(place, SEEDS_OF_AN_ARM)
        own[family * ARMS * SEEDS_OF_AN_ARM + place] = (names[arm], seed)
    part = slice(chunk * ITEMS, (chunk + 1) * ITEMS)
    results = []
    for each in bank:
        trial = each.trial
        if isinstance(each, Evaluated) and trial.candidate == adapted.name and trial.seed in own:
            name, seed = own[trial.seed]
            items = part if each.split is Split.TEST else slice(None)
            results.append(
                replace(
                    each,
                    trial=replace(trial, candidate=name, seed=seed),
                    nll=each.nll[items],
                    tokens=each.tokens[items],
                    correct=None,
                )
            )
    arms: tuple[Candidate, ...] = tuple(replace(adapted, name=name) for name in names)
    protocol = replace(plan.protocol, seeds=tuple(range(SEEDS_OF_AN_ARM)))
    found = analyse(replace(plan, candidates=arms, protocol=protocol), results)
    assert found.complete
    return found


def _preferred(found: Analysis, planted: str) -> Iterator[str]:
    for pair in found.pairs:
        if pair.first == planted and pair.relation is Relation.WORSE:
            yield pair.second
        elif pair.second == planted and pair.relation is Relation.BETTER:
            yield pair.first


def _spread(work: Any, numbers: Sequence[int]) -> Iterator[Any]:
    """Yield the results of `work` in the order of `numbers`, from processes with one thread each."""
    context = get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=_one_thread) as pool:
        yield from pool.map(work, numbers)


def _one_thread() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
