"""What every report of a pilot says in words, and what is to be done with its winner."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import Status
from lora_probe.piloting.records import Arm, Failure, Task
from lora_probe.piloting.statistics import FEWEST_SEEDS
from lora_probe.report.numbers import exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.outcome import Analysis, Dropped, LeaderboardRow
    from lora_probe.piloting.records import Candidate, Failed, Plan
    from lora_probe.report.pilot_figures import ForestRow

__all__ = [
    "adapter_config",
    "arm_cells",
    "dropped_text",
    "duration",
    "export_command",
    "failure_text",
    "how",
    "interval",
    "loss_text",
    "pilot_facts",
    "rate_text",
    "row_notes",
    "signed",
    "titles",
    "to_use",
    "use_text",
    "warnings",
]

_TITLES = ("test loss", "to the best", "parameters", "r", "learning rate")
"""Of the figures of an arm; losses are in the unit of the task."""
_FAILED = {
    Failure.DIVERGED: "diverged",
    Failure.OUT_OF_MEMORY: "did not fit into memory",
    Failure.CRASHED: "crashed",
}
_LANGUAGE = frozenset({Task.CAUSAL_LM, Task.SEQ2SEQ, Task.MASKED_LM})
_MINUTE, _HOUR = 60, 3600
_TASK_TYPES = {
    Task.CAUSAL_LM: "CAUSAL_LM",
    Task.SEQ2SEQ: "SEQ_2_SEQ_LM",
    Task.MASKED_LM: None,
    Task.SEQUENCE_CLASSIFICATION: "SEQ_CLS",
    Task.TOKEN_CLASSIFICATION: "TOKEN_CLS",
}
"""As PEFT calls them; it has no name for masked language modelling."""


def pilot_facts(plan: Plan) -> list[str]:
    """Return what was compared on what, from the most to the least telling."""
    quantized = f", {plan.model.quantization}" if plan.model.quantization else ""
    known = [
        plan.model.architecture,
        f"{exact(plan.model.total_parameters)} parameters",
        f"{plan.model.dtype}{quantized} on {plan.device}",
        f"data: {plan.data.source} ({plan.data.task}, {_count(plan.data.train_examples, 'example')})",
        _count(plan.training.steps, "step"),
    ]
    return [fact for fact in known if fact]


def warnings(analysis: Analysis) -> list[str]:
    """Return what a reader should know before believing the verdict: its caveats, then the rest."""
    said = [*analysis.verdict.caveats, *(note.message for note in analysis.warnings)]
    return list(dict.fromkeys(said))


def row_notes(analysis: Analysis) -> list[str]:
    """Return what is to be known about single rows; why arms were dropped or failed is told elsewhere."""
    told = {Status.DROPPED, Status.FAILED}
    return [
        f"{row.candidate}: {row.note}" for row in analysis.leaderboard if row.note and row.status not in told
    ]


def to_use(analysis: Analysis) -> Candidate | None:
    """Return the candidate that is recommended, else the best one; None before there is any."""
    name = analysis.verdict.recommended or analysis.verdict.best
    return next((each for each in analysis.plan.candidates if each.name == name), None)


def use_text(analysis: Analysis) -> str:
    """Return what to do with the block for PEFT, and how sure that is."""
    candidate = to_use(analysis)
    rates = [
        row.learning_rate
        for row in analysis.leaderboard
        if candidate and row.candidate == candidate.name and row.learning_rate is not None
    ]
    rate = f"learning rate here: {rates[0]:.3g}; a longer training may want another" if rates else ""
    unsure = "" if analysis.verdict.recommended else "It has the lowest loss so far, which may be chance. "
    return f"{unsure}This is its adapter_config.json for PEFT ({rate})." if rate else unsure


def adapter_config(candidate: Candidate, plan: Plan) -> str:
    """Return the `adapter_config.json` with which PEFT adapts what the candidate adapted."""
    document = {
        "peft_type": "LORA",
        "base_model_name_or_path": plan.model.model,
        "revision": plan.model.revision,
        "task_type": _TASK_TYPES[plan.data.task],
        "inference_mode": False,
        **candidate.lora,
    }
    return json.dumps(document, indent=2) + "\n"


def export_command(candidate: Candidate, plan: Plan, *, trainer: str = "axolotl") -> str:
    """Return the command line that writes the candidate for another trainer, quoted for a shell."""
    words = ["lora-probe", "export", plan.model.model, "--targets", candidate.targets, "--to", trainer]
    words += ["-r", str(candidate.rank), "--alpha", f"{candidate.alpha:g}"]
    if plan.training.dropout:
        words += ["--dropout", f"{plan.training.dropout:g}"]
    words += ["--rslora"] if plan.training.use_rslora else []
    words += ["--dora"] if plan.training.use_dora else []
    return shlex.join(words)


def titles(analysis: Analysis) -> tuple[str, ...]:
    """Return the titles of the figures of an arm: those of every pilot, then what was asked for."""
    asked = (
        ("accuracy", analysis.plan.protocol.accuracy),
        ("forgotten", analysis.plan.data.retention_examples > 0),
    )
    return (*_TITLES, *(title for title, shown in asked if shown))


def arm_cells(row: LeaderboardRow, analysis: Analysis) -> tuple[str, ...]:
    """Return one arm for a table: its place, its name, a figure for each of `titles`, and its status."""
    chosen = row.candidate == analysis.verdict.recommended
    asked = {
        "accuracy": "" if row.accuracy is None else f"{row.accuracy:.1%}",
        "forgotten": signed(row.forgotten),
    }
    return (
        "" if row.place is None else str(row.place),
        row.candidate,
        loss_text(row.test_loss),
        signed(row.difference),
        exact(row.trainable_parameters),
        str(row.rank) if row.arm is Arm.LORA else "",
        rate_text(row),
        *(asked[title] for title in titles(analysis) if title in asked),
        "recommended" if chosen else str(row.status),
    )


def dropped_text(dropped: Dropped) -> str:
    """Return which arm was taken out, when and why."""
    return f"{dropped.candidate}, {dropped.reason}"


def failure_text(failed: Failed) -> str:
    """Return which trial failed, when, how and why."""
    trial = failed.trial
    again = " (again)" if trial.repeat else ""
    return (
        f"{trial.candidate} at {trial.learning_rate:.3g} with seed {trial.seed}{again} "
        f"{_FAILED[failed.failure]} after step {exact(failed.step)}: {failed.reason}"
    )


def rate_text(row: LeaderboardRow) -> str:
    """Return the chosen learning rate, with a question mark where a better one may lie beyond the grid."""
    if row.learning_rate is None:
        return ""
    return f"{row.learning_rate:.3g}{'?' if row.learning_rate_resolved is False else ''}"


def loss_text(loss: float | None) -> str:
    """Return a loss to the fourth decimal, where two runs of one arm begin to differ."""
    return "" if loss is None else f"{loss:.4f}"


def signed(difference: float | None) -> str:
    """Return a difference of losses with its sign; none for exactly nothing."""
    if difference is None:
        return ""
    return f"{difference:+.4f}" if difference else "0"


def interval(row: ForestRow) -> str:
    """Return the interval that holds for all comparisons at once."""
    return f"[{row.family_low:+.4f}, {row.family_high:+.4f}]"


def duration(seconds: float) -> str:
    """Return a time as people say it: ``47 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def how(analysis: Analysis) -> list[str]:
    """Return how the pilot was done, a sentence each: what a reader needs in order to doubt or repeat it."""
    return [" ".join(sentence.split()) for sentence in _how(analysis)]


def _how(analysis: Analysis) -> Iterator[str]:
    plan, protocol, training = analysis.plan, analysis.plan.protocol, analysis.plan.training
    if protocol.equal == "rank":
        yield "Every set got the same rank."
    else:
        yield "Every set got the rank at which it trains as many parameters as the others, or just below."
        left = [f"{each.name} {exact(each.left_over)}" for each in plan.candidates if each.left_over]
        if left:
            yield f"Parameters of the common budget that whole ranks leave unspent: {', '.join(left)}."
    ratios = sorted({each.alpha / each.rank for each in plan.candidates if each.rank})
    if ratios:
        yield f"Alpha is {' or '.join(f'{ratio:g}' for ratio in ratios)} times the rank."
    steps = _count(training.steps, "batch", "batches")
    rows = _count(training.batch_size * training.accumulation, "row")
    yield f"""All arms saw the same {steps} of {rows} of up to {_count(training.max_length, "token")}, in the
        same order, with the same initial adapters for each seed."""
    saved = dict.fromkeys(
        name for candidate in plan.candidates for name in candidate.lora.get("modules_to_save") or ()
    )
    if saved:
        yield f"Every set also trains in full, from the same start: {', '.join(saved)}; its parameters count."
    grid = ", ".join(f"{protocol.learning_rate * factor:.3g}" for factor in protocol.grid)
    yield f"""Each set's learning rate was chosen from {grid}, and beyond where the best was at the edge, on
        {_count(plan.data.tuning_examples, "example")} that the verdict does not use."""
    if protocol.rungs:
        rungs = " and ".join(f"{rung:.0%}" for rung in protocol.rungs)
        yield f"""After {rungs} of the steps each set kept the better half of its learning rates, in the end
            one, and of the sets beyond the best {protocol.keep:.0%} those were dropped that lay more than
            {protocol.noise_band:g} standard errors behind the best."""
    yield f"""The verdict compares losses on {_count(plan.data.test_examples, "example")} that nothing else
        has seen, item by item, with {_count(len(protocol.seeds), "seed")}: {protocol.confidence:.0%}
        intervals from {exact(protocol.resamples)} bootstrap resamples of the items
        {"and Student's t over the seeds" if len(protocol.seeds) >= FEWEST_SEEDS else "alone"},
        Holm-corrected for all pairs of finalists."""
    yield f"""Differences up to {protocol.margin:g} {plan.data.task.loss_unit} do not matter, as was fixed
        beforehand."""
    if plan.data.retention_examples:
        yield f"""What was forgotten is the rise of the loss, in nats per token, on
            {_count(plan.data.retention_examples, "example")} of {plan.data.retention}, which nothing was
            trained on; no verdict rests on it."""
    if protocol.accuracy:
        what = "tokens" if plan.data.task in _LANGUAGE else "labels"
        yield f"Accuracy is the share of {what} of the test part predicted rightly; no verdict rests on it."
    noise = analysis.rerun_noise
    if noise is not None:
        apart = "both agree to the bit" if noise.identical else f"they differ by {noise.difference:.2g} nats"
        yield f"{noise.trial.candidate} was run twice with equal seed: {apart}."
    work = analysis.work
    if work.ratio is not None:
        yield f"""{exact(work.trial_steps)} steps were trained in {duration(work.seconds)}; every set at every
            learning rate with every seed would have taken {exact(work.naive_trial_steps)},
            {work.ratio:.1f} times as many."""


def _count(count: int, one: str, several: str = "") -> str:
    return f"{exact(count)} {one if count == 1 else several or one + 's'}"
