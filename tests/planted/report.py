"""Writes reports/planted_truth.md, how often pilots are right: ``python -m tests.planted.report``."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe import __version__
from lora_probe.report.wording import TIMES
from tests.pilot_nulls import natures, tally
from tests.planted import planting, suite
from tests.planted.naive import race

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.pilot_nulls import Tally
    from tests.planted.naive import Race

__all__ = ["Findings", "find", "main", "render"]

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "reports" / "planted_truth.md"
COMMAND = "python -m tests.planted.report"
PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy", "statsmodels")
SIMULATED = 2000
RACED = (4, 8)
"""Plantings that are judged the naive way, too: a single role, and two of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """Everything that the report tells."""

    outcomes: Sequence[suite.Outcome]
    nulls: Sequence[suite.Null]
    twins: Sequence[suite.Twins]
    simulated: Sequence[tuple[str, Tally]]
    races: Sequence[Race]
    load: float
    """Of the machine at the start; above the number of its cores, seconds are longer than they need be."""


def main() -> None:
    """Measure and write the report."""
    REPORT.write_text("\n".join([*render(find()), ""]), encoding="utf-8")
    sys.stdout.write(f"wrote {REPORT.relative_to(ROOT)}\n")


def find() -> Findings:
    """Run everything, one after another."""
    load = os.getloadavg()[0]
    return Findings(
        load=load,
        outcomes=list(suite.plantings()),
        nulls=list(suite.nulls()),
        twins=list(suite.twins()),
        simulated=[(name, tally(nature, draws=SIMULATED)) for name, nature in natures()],
        races=[race(number) for number in RACED],
    )


def render(found: Findings) -> Iterator[str]:
    """Yield the lines of the report."""
    yield "# What pilots say where the truth is known"
    yield ""
    yield f"Written by `make planted-report` (`{COMMAND}`); `make planted` holds the same to its bounds."
    yield ""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    yield f"- {machine}; load average at the start {found.load:.0f}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield f"- lora-probe {__version__}, Python {platform.python_version()}, {versions}"
    yield f"- {datetime.now(timezone.utc):%Y-%m-%d}; intervals of rates are exact binomial ones at 95%"
    yield ""
    yield from _plantings(found.outcomes)
    yield ""
    yield from _nulls(found.nulls)
    yield ""
    yield from _twins(found.twins)
    yield ""
    yield from _simulated(found.simulated)
    yield ""
    yield from _races(found.races)


def _plantings(outcomes: Sequence[suite.Outcome]) -> Iterator[str]:
    resolved = sum(each.resolved for each in outcomes)
    preferred = sum(bool(each.preferred) or each.planted_dropped for each in outcomes)
    elsewhere = sum(each.recommended not in (None, each.planted) for each in outcomes)
    options = suite.OPTIONS
    yield "## Something planted"
    yield ""
    yield (
        f"A Llama with random weights ({planting.LAYERS} layers, width {planting.WIDTH}, "
        f"{planting.VOCABULARY} words) is changed in all modules of one set by random updates of rank "
        f"{planting.RANK} over the number of its roles, whose size is solved so that the models differ by "
        f"{planting.DIVERGENCE:g} nats per token. The changed model writes {suite.EXAMPLES:,} texts of "
        f"{planting.LENGTH} words. `lora_probe.pilot` gets the unchanged model and the texts as files, and "
        f"{len(planting.SETS)} sets of exactly {planting.BUDGET:,} trainable parameters each, one of them "
        f"planted: {', '.join(f'`{name}`' for name in planting.SETS)}. "
        f"{options['steps']} steps of {options['batch_size']} texts, learning rates around "
        f"{options['learning_rate']:g}; all else is the tool's default: equal parameters, three rates a set "
        "with extension, halving, three seeds, 128 tuning and 256 test texts, margin 0.01. Nothing is "
        "chosen for one planting."
    )
    yield ""
    yield (
        "Resolved means that the answer is *better*, of the planted set over every other finalist, and that "
        "it is recommended; *unresolved* and *equivalent* count as not resolved."
    )
    yield ""
    yield f"- resolved: **{_rate(resolved, len(outcomes))}** (aim: 19 of 20)"
    yield (
        f"- a decoy called better than the planted set, or the planted set dropped by halving: "
        f"**{_rate(preferred, len(outcomes))}** (aim: none)"
    )
    yield f"- a decoy recommended: {_rate(elsewhere, len(outcomes))}"
    yield ""
    yield (
        "Losses are nats per token on the test texts; *least* is the entropy of the changed model, which no "
        "arm can beat but by luck. The difference is that to the closest finalist, with the interval that "
        "holds for all pairs at once."
    )
    yield ""
    yield (
        "| # | planted | answer | best | base | planted set | least | closest | difference | finalists "
        "| work saved | seconds |"
    )
    yield "|--:|:--|:--|:--|--:|--:|--:|:--|:--|--:|--:|--:|"
    for each in outcomes:
        best = "the planted" if each.best == each.planted else f"`{each.best}`"
        loss = "dropped" if each.planted_loss is None else f"{each.planted_loss:.3f}"
        yield (
            f"| {each.number} | `{each.planted}` | {each.answer} | {best} | {each.base_loss:.3f} | {loss} "
            f"| {each.entropy:.3f} | `{each.closest}` | {each.difference:.3f} ({each.low:.3f} to "
            f"{each.high:.3f}) | {each.finalists} | {each.work_ratio:.1f}{TIMES} | {each.seconds:.0f} |"
        )
    yield ""
    yield (
        f"Work saved is steps of every set at every rate with every seed over the steps taken; seconds are "
        f"those of the whole call, {suite.PROCESSES} plantings at a time with one thread each."
    )


def _nulls(nulls: Sequence[suite.Null]) -> Iterator[str]:
    recommended = sum(each.recommended is not None for each in nulls)
    better = sum(each.answer == "better" for each in nulls)
    yield "## Nothing planted"
    yield ""
    yield (
        "The same pilots on texts that the base itself wrote: there is nothing to learn, and each set only "
        "loses by training, some more than others."
    )
    yield ""
    yield f"- a set recommended: **{_rate(recommended, len(nulls))}**"
    yield f"- one called better than every other: **{_rate(better, len(nulls))}**"
    gains = ", ".join("none" if each.gain is None else f"{each.gain:.4f}" for each in nulls)
    yield f"- what the best arm gained over the base, nats per token: {gains}"


def _twins(twins: Sequence[suite.Twins]) -> Iterator[str]:
    verdicts = sum(each.verdicts for each in twins)
    any_better = sum(each.any_better for each in twins)
    equivalent = sum(each.equivalent for each in twins)
    yield "## Arms that do not differ, really trained"
    yield ""
    yield (
        "Different sets differ in truth, if by little. Here the arms of a comparison are one and the same "
        f"set on the same data, trained with seeds of their own, so that none can be better. In {len(twins)} "
        f"worlds, one for each set, {suite.FAMILIES * suite.ARMS * suite.SEEDS_OF_AN_ARM} seeds were "
        f"trained; they are dealt out to {suite.FAMILIES} pairs of arms that share none, each compared on "
        f"{suite.CHUNKS} parts of the test texts that share none ({suite.ITEMS} each) by the analysis of "
        "whole pilots. Comparisons of one pair on other texts share its seeds, so that these are fewer "
        "independent draws than their number."
    )
    yield ""
    yield f"- one arm called better than the other: **{_rate(any_better, verdicts)}** (aim: 5% at most)"
    yield f"- called equivalent: {_rate(equivalent, verdicts)}"


def _simulated(simulated: Sequence[tuple[str, Tally]]) -> Iterator[str]:
    yield "## The statistics alone"
    yield ""
    yield (
        f"{SIMULATED:,} simulated comparisons of equal arms for each way in which losses may scatter "
        "(`tests/pilot_nulls.py`): heavy tails, unequal lengths, learning rates picked by luck. A claim "
        "about any pair counts, not only about the best arm."
    )
    yield ""
    yield "| what scatters | any pair told apart | an arm called better than all |"
    yield "|:--|--:|--:|"
    for name, each in simulated:
        claims = (_rate(count, each.drawn) for count in (each.any_false_better, each.sole_better))
        yield f"| {name} | {' | '.join(claims)} |"


def _races(races: Sequence[Race]) -> Iterator[str]:
    yield "## Time to the verdict"
    yield ""
    yield (
        "Against every set at every rate of the grid with every seed, trained to the end one after another "
        "with PEFT: plain loops, fused AdamW, batches and base loaded once, threads as many as are fastest. "
        "Both ways run in one process, one after the other, from the files to the answer. Processor time "
        "does not count what the machine did otherwise."
    )
    yield ""
    yield (
        "| planted | pilot says | naive way says | runs | pilot | naive way | time saved "
        "| processor: pilot | naive way | saved | steps saved |"
    )
    yield "|:--|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|"
    for each in races:
        yield (
            f"| `{each.planted}` | `{each.pilot_says}` | `{each.naive_says}` "
            f"| {each.runs_taken} of {each.runs} "
            f"| {each.pilot_seconds:.0f} s | {each.naive_seconds:.0f} s | **{each.ratio:.1f}{TIMES}** "
            f"| {each.pilot_cpu:.0f} s | {each.naive_cpu:.0f} s | **{each.cpu_ratio:.1f}{TIMES}** "
            f"| {each.work_ratio:.1f}{TIMES} |"
        )
    yield ""
    yield f"The aim is 5{TIMES}."
    if any(each.runs_taken < each.runs for each in races):
        yield "Where not all runs of the naive way were taken, its times are scaled up from those that were."


def _rate(count: int, total: int) -> str:
    """Return a count with the interval of its rate (Clopper and Pearson)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(confidence_level=0.95, method="exact")
    return f"{count} of {total:,} ({100 * interval.low:.1f} to {100 * interval.high:.1f}%)"


if __name__ == "__main__":
    main()
