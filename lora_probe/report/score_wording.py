"""What every report of scores says in words and figures, so that terminal, Markdown and HTML agree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Task
from lora_probe.report.numbers import exact, short
from lora_probe.scoring.records import CAUTION, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.scoring.records import RoleScore, Scores

__all__ = ["HEAT_TITLES", "TITLES", "figure", "role_cells", "role_name", "score_facts", "score_notes"]

TITLES = ("sites", "added", "NFN", "energy", "per parameter", "SNR", "consistent", "places")
"""Of the columns after the role: `role_cells` fills them."""
HEAT_TITLES = {
    Signal.NFN: "NFN: the lower, the sooner to be adapted",
    Signal.ENERGY: "Gradient energy for each added parameter",
    Signal.CONSISTENCY: "Consistent gradient energy for each added parameter",
}
_MISSING = "—"
_AGREED = 0.5
"""Spearman's correlation below which two rankings are said to disagree."""
_NAMES = {"nfn": "NFN", "energy": "energy", "consistency": "consistency"}


def score_facts(scores: Scores) -> list[str]:
    """Return what was scored, and on what."""
    batches = f"{scores.batches} micro-batch{'es' if scores.batches != 1 else ''} of {scores.batch_size}"
    labelled = "examples" if scores.data.task is Task.SEQUENCE_CLASSIFICATION else "tokens"
    return [
        scores.model.architecture,
        f"{exact(scores.model.total_parameters)} parameters",
        f"{exact(len(scores.sites))} modules of {scores.targets} at r={scores.rank}",
        f"{batches}, {exact(scores.tokens)} labelled {labelled}",
        f"loss {scores.loss:.4f} {scores.data.task.loss_unit}",
    ]


def role_name(role: RoleScore) -> str:
    """Return the role as people write it here, with a star where the signals disagree on it."""
    return f"{role.targets or role.role}{' *' if role.contested else ''}"


def role_cells(role: RoleScore) -> tuple[str, ...]:
    """Return the figures under `TITLES`; places are those by NFN, by energy and by consistency."""
    return (
        exact(role.sites),
        short(role.added_parameters),
        _MISSING if role.nfn is None else f"{role.nfn:.2f}",
        figure(role.energy),
        figure(role.energy_per_parameter),
        _MISSING if role.snr is None else f"{role.snr:.2f}",
        figure(role.consistent_energy_per_parameter),
        " ".join(str(role.places[signal] or _MISSING) for signal in Signal),
    )


def figure(value: float | None) -> str:
    """Return an energy to three digits."""
    if value is None or math.isnan(value):
        return _MISSING
    return f"{value:.2e}" if value else "0"


def score_notes(scores: Scores) -> Iterator[str]:
    """Yield where the signals disagree, what was left out and why, and what else a reader should know."""
    yield (
        "places are by NFN (lowest first), by energy and by consistent energy for each added parameter; "
        "energy is the sum over a role's modules"
    )
    if scores.contested:
        names = ", ".join(role.targets or role.role for role in scores.contested)
        yield f"* the signals disagree on {names}: their places lie half of all roles apart, or more"
    for pair, value in scores.agreement.items():
        one, other = (_NAMES[name] for name in pair.split("~"))
        if value < _AGREED:
            yield f"{one} and {other} rank the roles differently (Spearman's correlation {value:.2f})"
    for skipped in scores.skipped:
        yield f"{exact(len(skipped.parameters))} not scored: {skipped.reason}"
    yield from scores.notes
    yield CAUTION
