"""The plots of a pilot: what they draw, and that it is drawn in its place."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import pytest

from lora_probe.piloting.outcome import Relation
from lora_probe.piloting.records import Arm, Task
from lora_probe.report.axes import linear_axis, log_axis
from lora_probe.report.pilot_charts import pareto_chart, rate_chart, training_chart, tuning_chart
from lora_probe.report.pilot_figures import arm_colors, forest, learning_rate_curves, loss_curves, pareto
from lora_probe.report.pilot_forest import forest_chart
from lora_probe.report.pilot_html import pilot_page
from lora_probe.report.pilot_plots import draw_forest, draw_learning_rates, draw_loss_curves, draw_pareto
from tests.pilot_findings import sample_analysis
from tests.pilot_samples import BASE_LOSS, sample_plan

WHOLE_MODEL = 1_049_728


def test_a_forest_turns_to_the_worse() -> None:
    """Differences are shown as how much worse an arm is than the best; the base is not among them."""
    info = forest(sample_analysis())
    assert info is not None
    assert info.best == "all-linear"
    assert [row.candidate for row in info.rows] == ["mlp", "o+down"]
    last = info.rows[1]
    assert (last.difference, last.relation) == (0.024, Relation.WORSE)
    assert (last.low, last.high) == pytest.approx((0.015, 0.033))
    assert last.family_low < last.low < last.difference < last.high < last.family_high


def test_a_forest_is_drawn_to_scale() -> None:
    """The band reaches as far as the margin to both sides of zero, and each mean lies in its interval."""
    found = sample_analysis()
    info = forest(found)
    assert info is not None
    chart = forest_chart(info, arm_colors(found.plan))
    assert chart.band + chart.band_width / 2 == pytest.approx(chart.zero, abs=0.02)
    for line in chart.lines:
        assert line.family_low <= line.low <= line.at <= line.low + line.width
        assert line.low + line.width <= line.family_low + line.family_width + 0.02


def test_curves_are_of_the_chosen_learning_rates() -> None:
    """Each finalist has a curve for each seed from the base's loss on; training curves are averaged."""
    info = loss_curves(sample_analysis())
    assert info.base == BASE_LOSS
    assert [curve.seed for curve in info.tuning if curve.candidate == "mlp"] == [0, 1, 2]
    assert all(curve.steps[0] == 0 and curve.losses[0] == BASE_LOSS for curve in info.tuning)
    assert [curve.candidate for curve in info.training].count("mlp") == 1
    assert info.dropped == {"qv": 20}


def test_a_run_that_repeats_another_has_no_curve() -> None:
    """The arm that measures rerun noise is no seed of its own."""
    found = sample_analysis()
    again = tuple(replace(curve, trial=replace(curve.trial, repeat=1)) for curve in found.loss_curves)
    assert loss_curves(replace(found, loss_curves=(*found.loss_curves, *again))) == loss_curves(found)


def test_long_training_curves_are_thinned() -> None:
    """However long a run, its training curve keeps a few dozen points, the last one at the last step."""
    found = sample_analysis()
    steps = tuple(range(1, 1001))
    curves = tuple(
        replace(curve, train_steps=steps, train_losses=tuple(1000.0 - step for step in steps))
        for curve in found.loss_curves
    )
    plan = replace(found.plan, training=replace(found.plan.training, steps=1000))
    for curve in loss_curves(replace(found, plan=plan, loss_curves=curves)).training:
        assert len(curve.steps) == len(curve.losses) <= 60
        assert curve.steps[-1] == 1000
        assert list(curve.losses) == sorted(curve.losses, reverse=True)


def test_a_pareto_plot_has_every_measured_arm() -> None:
    """Arms without a result are left out, the base is a level, and full fine-tuning is a point."""
    info = pareto(sample_analysis())
    assert info.base == BASE_LOSS
    assert [point.candidate for point in info.points] == ["mlp", "o+down", "all-linear", "full"]
    assert info.points[-1].trainable_parameters == WHOLE_MODEL


@pytest.mark.parametrize("lowest", [3.2, 1.0])
def test_labels_do_not_cover_each_other(lowest: float) -> None:
    """Names of arms that are equally good are moved apart, those at the top downwards."""
    found = sample_analysis()
    rows = tuple(
        row if row.test_loss is None else replace(row, test_loss=lowest if row.candidate == "full" else 3.2)
        for row in found.leaderboard
    )
    chart = pareto_chart(pareto(replace(found, leaderboard=rows)), arm_colors(found.plan))
    assert chart is not None
    places = sorted(dot.label_y for dot in chart.dots)
    assert all(above - below > 5 for below, above in pairwise(places))
    assert 0 <= places[0] < places[-1] <= 100


def test_failed_learning_rates_are_marked() -> None:
    """A learning rate that failed has no loss: it is a cross at the top, and the chosen one has a ring."""
    found = sample_analysis()
    info = learning_rate_curves(found)
    attention = next(curve for curve in info.curves if curve.candidate == "attention")
    assert (attention.failed, len(attention.rates)) == ((8e-4,), 2)
    chart = rate_chart(info, arm_colors(found.plan))
    assert chart is not None
    assert [dot.y for dot in chart.dots if dot.mark == "cross"] == [100.0]
    assert sum(dot.mark == "ring" for dot in chart.dots) == len(info.curves)


def test_learning_rates_that_were_tried_stand_on_the_axis() -> None:
    """Page and plot write the rates themselves, also those beyond the grid, and the step of the losses."""
    from matplotlib.figure import Figure

    found = sample_analysis()
    info = learning_rate_curves(found)
    tried = sorted({point.learning_rate for search in found.learning_rates for point in search.points})
    assert list(info.marks) == tried
    assert info.step == found.learning_rates[0].points[0].step
    ax = draw_learning_rates(info, Figure().subplots(), colors=arm_colors(found.plan))
    assert [label.get_text() for label in ax.get_xticklabels()] == [f"{rate:g}" for rate in tried]
    assert f"step {info.step}" in ax.get_xlabel()
    assert f"Losses after step {info.step} with the first seed" in pilot_page(found)
    many = replace(info.curves[0], rates=tuple(1e-4 * 2**power for power in range(15)))
    assert len(replace(info, curves=(many,)).marks) <= 7


def test_charts_stay_inside() -> None:
    """No dot and no tick of any chart lies outside of its field."""
    found, colors = sample_analysis(), arm_colors(sample_plan())
    curves = loss_curves(found)
    for chart in (
        tuning_chart(curves, colors),
        training_chart(curves, colors),
        pareto_chart(pareto(found), colors),
        rate_chart(learning_rate_curves(found), colors),
    ):
        assert chart is not None
        assert len(chart.y_ticks) >= 3
        places = [
            *(tick.place for tick in (*chart.x_ticks, *chart.y_ticks)),
            *(place for dot in chart.dots for place in (dot.x, dot.y)),
        ]
        assert all(0 <= place <= 100 for place in places)


@pytest.mark.parametrize("values", [[3.0], [0.0], [1.0, 1.0], [-5.0, 1e6], [3.2001, 3.2002]])
def test_linear_axes_hold_any_values(values: list[float]) -> None:
    """Equal, huge and tiny ranges give rising, distinct labels and places within the axis."""
    axis = linear_axis(values, label=lambda value, decimals: f"{value:.{decimals}f}")
    labels = [float(tick.label) for tick in axis.ticks]
    assert len(labels) >= 2
    assert labels == sorted(set(labels))
    assert all(0 < axis(value) < 100 for value in values)


@pytest.mark.parametrize("values", [[1e-4], [2e-4, 8e-4], [1.0, 1e9], [40_000.0, 43_000.0]])
def test_log_axes_hold_any_values(values: list[float]) -> None:
    """One value, near values and many decades give at least one label and places within the axis."""
    axis = log_axis(values, label=lambda value: f"{value:.3g}")
    assert axis.ticks
    assert len(axis.ticks) < 12
    assert all(0 < axis(value) < 100 for value in values)


def test_plots_draw_onto_the_axes_they_are_given() -> None:
    """Each plot returns its axes, with the arms' names on them."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found, colors = sample_analysis(), arm_colors(sample_plan())
    info = forest(found)
    assert info is not None
    drawings: list[Any] = [
        (draw_forest, info),
        (draw_loss_curves, loss_curves(found)),
        (draw_pareto, pareto(found)),
        (draw_learning_rates, learning_rate_curves(found)),
    ]
    for draw, what in drawings:
        figure, ax = plt.subplots()
        assert draw(what, ax, colors=colors) is ax
        legend = ax.get_legend()
        words = [text.get_text() for text in legend.get_texts()] if legend else []
        words += [text.get_text() for text in ax.get_yticklabels()]
        assert any(word.startswith("mlp") for word in words)
        figure.canvas.draw()
        plt.close(figure)


def test_plots_name_the_unit_of_the_task() -> None:
    """Losses of texts that are classified as a whole are per example on every axis."""
    from matplotlib.figure import Figure

    found = sample_analysis()
    plan = replace(found.plan, data=replace(found.plan.data, task=Task.SEQUENCE_CLASSIFICATION))
    found, colors = replace(found, plan=plan), arm_colors(plan)
    info = forest(found)
    assert info is not None
    axes = Figure().subplots(4)
    draw_forest(info, axes[0], colors=colors)
    assert axes[0].get_xlabel() == "nats per example worse than all-linear"
    draw_loss_curves(loss_curves(found), axes[1], colors=colors)
    draw_pareto(pareto(found), axes[2], colors=colors)
    draw_learning_rates(learning_rate_curves(found), axes[3], colors=colors)
    assert {ax.get_ylabel() for ax in axes[1:]} == {"nats per example"}


def test_each_arm_has_one_colour() -> None:
    """Sets differ in colour; references are grey."""
    plan = sample_plan()
    colors = arm_colors(plan)
    sets = [colors[each.name] for each in plan.candidates if each.arm is Arm.LORA]
    assert len(set(sets)) == len(sets)
    assert colors["base"] == colors["full"] not in sets
