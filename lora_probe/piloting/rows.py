"""The leaderboard: one row an arm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.piloting.comparisons import results_by_seed
from lora_probe.piloting.outcome import LeaderboardRow, Status
from lora_probe.piloting.records import Arm, Split, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_probe.piloting.comparisons import Standings, Tested
    from lora_probe.piloting.ledger import Ledger
    from lora_probe.piloting.outcome import Dropped
    from lora_probe.piloting.protocol import Progress
    from lora_probe.piloting.records import Candidate, Plan

__all__ = ["leaderboard"]

_ORDER = (Status.FINALIST, Status.RUNNING, Status.DROPPED, Status.FAILED, Status.REFERENCE)


def leaderboard(
    plan: Plan, *, progress: Progress, ledger: Ledger, tested: Mapping[str, Tested], standings: Standings
) -> tuple[LeaderboardRow, ...]:
    """Return one row an arm: finalists by place, those still running, dropped, failed, and references."""
    rows = [
        _row(plan, each, progress=progress, ledger=ledger, tested=tested, standings=standings)
        for each in plan.candidates
    ]
    rows = [replace(row, on_pareto_front=_undominated(row, rows)) for row in rows]
    return tuple(sorted(rows, key=_rank_of))


def _rank_of(row: LeaderboardRow) -> tuple[int, float, float]:
    endless = float("inf")
    tuning = -row.steps, endless if row.tuning_loss is None else row.tuning_loss
    return (_ORDER.index(row.status), *((row.place, 0.0) if row.place else tuning))


def _row(
    plan: Plan,
    candidate: Candidate,
    *,
    progress: Progress,
    ledger: Ledger,
    tested: Mapping[str, Tested],
    standings: Standings,
) -> LeaderboardRow:
    name = candidate.name
    ours = tested.get(name, {})
    rate = progress.chosen.get(name)
    resolved = progress.resolutions.get(name)
    drop = next((each for each in progress.dropped if each.candidate == name), None)
    status = _status(progress, candidate, ours, drop)
    step, tuning = _last_tuning(plan, ledger, candidate, rate)
    loss = _mean([each.loss for each in ours.values()])
    base = next((each for each in plan.candidates if each.arm is Arm.BASE), None)
    base_loss = _mean([each.loss for each in tested.get(base.name, {}).values()]) if base else None
    retention = _retention(plan, ledger, candidate, rate)
    unforgotten = _retention(plan, ledger, base, None) if base else None
    best_loss = (
        _mean([tested[standings.best][seed].loss for seed in standings.seeds]) if standings.best else None
    )
    return LeaderboardRow(
        place=standings.places.index(name) + 1 if name in standings.places else None,
        candidate=name,
        arm=candidate.arm,
        status=status,
        targets=candidate.targets,
        rank=candidate.rank,
        alpha=candidate.alpha,
        trainable_parameters=candidate.trainable_parameters,
        left_over=candidate.left_over,
        learning_rate=rate,
        learning_rate_resolved=resolved[0] if resolved else None,
        seeds=() if candidate.arm is Arm.BASE else tuple(ours),
        test_loss=loss,
        test_loss_by_seed=tuple(each.loss for each in ours.values()),
        tuning_loss=tuning,
        steps=step,
        gain=base_loss - loss if base_loss is not None and loss is not None else None,
        difference=loss - best_loss if best_loss is not None and loss is not None else None,
        accuracy=_accuracy(ours),
        on_pareto_front=False,
        note=_note(plan, candidate, rate=rate, ledger=ledger, status=status, drop=drop, ours=ours),
        retention_loss=retention,
        forgotten=retention - unforgotten if retention is not None and unforgotten is not None else None,
    )


def _status(progress: Progress, candidate: Candidate, ours: Tested, drop: Dropped | None) -> Status:
    if candidate.arm is not Arm.LORA:
        return Status.REFERENCE
    if drop:
        return Status.DROPPED
    if candidate.name in progress.failed:
        return Status.FAILED
    if progress.units or candidate.name not in progress.finalists:
        return Status.RUNNING
    return Status.FINALIST if ours else Status.FAILED


def _note(
    plan: Plan,
    candidate: Candidate,
    *,
    rate: float | None,
    ledger: Ledger,
    status: Status,
    drop: Dropped | None,
    ours: Tested,
) -> str:
    """Return why an arm was dropped or failed, or which seeds of its chosen rate it lost, and why."""
    if drop:
        return drop.reason
    failures = [each for each in ledger.failures() if each.trial.candidate == candidate.name]
    if status is Status.FAILED or (failures and not ours and status is Status.REFERENCE):
        return "; ".join(dict.fromkeys(each.reason for each in failures))
    lost = [seed for seed in plan.protocol.seeds if seed not in ours]
    if status is Status.FINALIST and lost:
        reasons = dict.fromkeys(
            each.reason for each in failures if each.trial.learning_rate == rate and each.trial.seed in lost
        )
        return f"no result with seed {', '.join(map(str, lost))}: {'; '.join(reasons)}"
    return ""


def _last_tuning(
    plan: Plan, ledger: Ledger, candidate: Candidate, rate: float | None
) -> tuple[int, float | None]:
    """Return the last step at which an arm was evaluated, and the mean loss of the seeds that came there."""
    at = 0.0 if candidate.arm is Arm.BASE else rate
    if at is None:
        return 0, None
    last = [
        ledger.evaluations(Trial(candidate=candidate.name, learning_rate=at, seed=seed))[-1:]
        for seed in plan.protocol.seeds
    ]
    step = max((each.step for found in last for each in found), default=0)
    return step, _mean([each.loss for found in last for each in found if each.step == step])


def _retention(plan: Plan, ledger: Ledger, candidate: Candidate, rate: float | None) -> float | None:
    """Return the loss of an arm on the retention text, mean over seeds."""
    found = results_by_seed(plan, ledger, candidate, rate, split=Split.RETENTION)
    return _mean([each.loss for each in found.values()])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _accuracy(ours: Tested) -> float | None:
    right = [sum(each.correct) for each in ours.values() if each.correct is not None]
    tokens = sum(sum(each.tokens) for each in ours.values())
    return sum(right) / tokens if tokens and len(right) == len(ours) else None


def _undominated(row: LeaderboardRow, rows: Sequence[LeaderboardRow]) -> bool:
    if row.test_loss is None:
        return False
    ours = row.trainable_parameters, row.test_loss
    return not any(
        other.test_loss is not None
        and (other.trainable_parameters, other.test_loss) != ours
        and other.trainable_parameters <= ours[0]
        and other.test_loss <= ours[1]
        for other in rows
    )
