"""From a plan and its results to everything that is shown of a pilot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.piloting.cautions import cautions, dead_adapters, forgets_more
from lora_probe.piloting.comparisons import compare, results_by_seed
from lora_probe.piloting.curves import learning_rate_curves, loss_curves
from lora_probe.piloting.ledger import Ledger
from lora_probe.piloting.outcome import Analysis, RerunNoise, Status, Work
from lora_probe.piloting.protocol import progress
from lora_probe.piloting.records import Arm, Trial
from lora_probe.piloting.rows import leaderboard
from lora_probe.piloting.verdict import decide

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Plan, Result

__all__ = ["analyse"]


def analyse(plan: Plan, results: Iterable[Result]) -> Analysis:
    """Return what `results` say under `plan`; pure, and the same whatever the order of the results.

    It may be asked at any time: what is not known yet is None, and the answer unresolved.

    Raises:
        DifferentItems: two evaluations of one split were made on different items.

    """
    ledger = Ledger(results)
    so_far = progress(plan, ledger)
    complete = not so_far.units
    tested = {
        each.name: results_by_seed(plan, ledger, each, so_far.chosen.get(each.name))
        for each in plan.candidates
    }
    standings = compare(plan, so_far, tested)
    rows = leaderboard(plan, progress=so_far, ledger=ledger, tested=tested, standings=standings)
    rates = learning_rate_curves(plan, so_far, ledger)
    noise = _rerun_noise(so_far, ledger)
    warned = cautions(
        plan, progress=so_far, ledger=ledger, standings=standings, rows=rows, rates=rates, noise=noise
    )
    failed = [row.candidate for row in rows if row.status is Status.FAILED]
    verdict = decide(plan, standings, warned, complete=complete, failed=failed)
    notes = [each.note for each in warned]
    if (forgetting := forgets_more(plan, rows, verdict.recommended)) is not None:
        # To be weighed by whoever follows the verdict; it does not make the verdict less certain.
        verdict = replace(verdict, caveats=(*verdict.caveats, forgetting.message))
        notes.append(forgetting)
    return Analysis(
        plan=plan,
        complete=complete,
        verdict=verdict,
        leaderboard=rows,
        comparisons=standings.against_best,
        pairs=standings.pairs,
        learning_rates=rates,
        loss_curves=loss_curves(so_far, ledger),
        dropped=tuple(so_far.dropped),
        failures=ledger.failures(),
        dead_adapters=dead_adapters(ledger),
        rerun_noise=noise,
        work=_work(plan, ledger),
        warnings=tuple(notes),
    )


def _rerun_noise(so_far: Progress, ledger: Ledger) -> RerunNoise | None:
    """Return how two equal runs differ at the last step that both reached."""
    again = so_far.rerun
    if again is None:
        return None
    once = Trial(candidate=again.candidate, learning_rate=again.learning_rate, seed=again.seed)
    for second in reversed(ledger.evaluations(again)):
        if first := ledger.evaluated(once, second.step):
            return RerunNoise(
                trial=again,
                step=second.step,
                difference=abs(first.loss - second.loss),
                identical=first.nll == second.nll,
            )
    return None


def _work(plan: Plan, ledger: Ledger) -> Work:
    """Count what was trained; of passes that shared their time, each trial brings its part of it."""
    stretches = [each for trial in ledger.trials() for each in ledger.trained(trial)]
    arms = sum(each.arm is not Arm.BASE for each in plan.candidates)
    runs = arms * len(plan.protocol.grid) * len(plan.protocol.seeds)
    return Work(
        trial_steps=sum(len(each.losses) for each in stretches),
        naive_trial_steps=runs * plan.training.steps,
        seconds=sum(each.seconds for each in stretches),
        tokens=sum(each.tokens for each in stretches),
    )
