"""A pilot as HTML: a fragment for notebooks, and a page to send to a colleague."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe._version import __version__
from lora_probe.piloting.outcome import Confidence
from lora_probe.piloting.records import Task
from lora_probe.report.pilot_charts import pareto_chart, rate_chart, training_chart, tuning_chart
from lora_probe.report.pilot_command import pilot_command
from lora_probe.report.pilot_figures import arm_colors, forest, learning_rate_curves, loss_curves, pareto
from lora_probe.report.pilot_forest import forest_chart
from lora_probe.report.pilot_wording import (
    adapter_config,
    arm_cells,
    dropped_text,
    export_command,
    failure_text,
    how,
    loss_text,
    pilot_facts,
    row_notes,
    titles,
    to_use,
    use_text,
    warnings,
)
from lora_probe.report.templating import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.outcome import Analysis
    from lora_probe.report.pilot_figures import RateCurves

__all__ = ["pilot_fragment", "pilot_page"]

_TUNING = "Loss on the tuning part at the chosen learning rates; a ring marks a set that was dropped there."


def pilot_fragment(analysis: Analysis) -> str:
    """Return a ``<div>`` with verdict, warnings and table, in the colours of the page around it."""
    return environment().get_template("pilot.html.j2").render(_context(analysis))


def pilot_page(analysis: Analysis) -> str:
    """Return a document without scripts or links: verdict, plots, tables, what to use, how to repeat it."""
    colors, winner = arm_colors(analysis.plan), to_use(analysis)
    curves, differences = loss_curves(analysis), forest(analysis)
    rates = learning_rate_curves(analysis)
    generates = analysis.plan.data.task is Task.CAUSAL_LM  # other trainers know nothing else
    return (
        environment()
        .get_template("pilot_page.html.j2")
        .render(
            _context(analysis),
            forest=forest_chart(differences, colors) if differences else None,
            charts=[
                (tuning_chart(curves, colors), "Held-out loss while training", _TUNING),
                (
                    pareto_chart(pareto(analysis), colors),
                    "Quality against parameters",
                    _pareto_text(analysis),
                ),
                (
                    rate_chart(rates, colors),
                    "Learning rates",
                    _rates_text(rates, analysis),
                ),
                (training_chart(curves, colors), "Training loss", "The mean over seeds and a few steps."),
            ],
            winner=winner,
            use=use_text(analysis),
            config=adapter_config(winner, analysis.plan) if winner else "",
            export=export_command(winner, analysis.plan) if winner and generates else "",
            how=how(analysis),
            command=pilot_command(analysis.plan),
            hashes=_hashes(analysis),
            dropped_text=dropped_text,
            failure_text=failure_text,
            versions=_versions(analysis),
        )
    )


def _context(analysis: Analysis) -> dict[str, Any]:
    """Return what the templates may name."""
    return {
        "analysis": analysis,
        "plan": analysis.plan,
        "facts": pilot_facts(analysis.plan),
        "warnings": warnings(analysis),
        "low_confidence": analysis.verdict.confidence is Confidence.LOW,
        "notes": row_notes(analysis),
        "colors": arm_colors(analysis.plan),
        "titles": titles(analysis),
        "cells": lambda row: arm_cells(row, analysis),
        "unresolved": any(row.learning_rate_resolved is False for row in analysis.leaderboard),
    }


def _pareto_text(analysis: Analysis) -> str:
    base = pareto(analysis).base
    untrained = "" if base is None else f" Without any training the loss is {loss_text(base)}."
    return f"Test loss; the line joins the sets that no cheaper one beats.{untrained}"


def _rates_text(rates: RateCurves, analysis: Analysis) -> str:
    later = (
        ", found among the better ones at later steps, too"
        if rates.step < analysis.plan.training.steps
        else ""
    )
    return (
        f"Losses after step {rates.step} with the first seed, on the tuning part. A ring marks the chosen "
        f"one{later}; a cross one that failed."
    )


def _hashes(analysis: Analysis) -> list[tuple[str, str | None]]:
    plan = analysis.plan
    return [
        ("model revision", plan.model.revision),
        ("model sha256", plan.model.fingerprint),
        ("data sha256", plan.data.fingerprint),
    ]


def _versions(analysis: Analysis) -> Mapping[str, str]:
    """Return the versions that measured; this package's own where the plan does not name it."""
    return {"lora-probe": __version__, **analysis.plan.versions}
