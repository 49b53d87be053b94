"""What is seen of a pilot while it runs, on a terminal and elsewhere."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from lora_probe.piloting.ledger import Ledger
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.protocol import next_units, progress
from lora_probe.piloting.records import Trained
from lora_probe.report.pilot_progress import LineProgress, LiveProgress, progress_for
from lora_probe.report.pilot_watch import Watch, remaining_steps
from tests.pilot_samples import BASE_LOSS, play, sample_plan

if TYPE_CHECKING:
    from lora_probe.piloting.records import Plan, Unit

HOSTILE = "x\x1b[31m\u202e"


class Clock:
    """A clock on which every look takes one second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return a second more than last time."""
        self.now += 1.0
        return self.now


def _lines(plan: Plan, *, rounds: int = 100) -> list[str]:
    stream = StringIO()
    play(plan, LineProgress(stream, clock=Clock()), rounds=rounds)
    return stream.getvalue().splitlines()


def _live() -> tuple[LiveProgress, StringIO]:
    stream = StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system=None, legacy_windows=False)
    return LiveProgress(console, clock=Clock()), stream


def test_a_quiet_pilot_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for quiet gets the observer that looks away."""
    watching = progress_for(quiet=True)
    assert type(watching) is Observer
    play(sample_plan(), watching)
    assert capsys.readouterr() == ("", "")


def test_lines_go_where_no_terminal_reads() -> None:
    """A pipe gets lines, a terminal the live display."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(progress_for(stream=StringIO()), LineProgress)
    assert isinstance(progress_for(stream=Terminal()), LiveProgress)


def test_lines_tell_the_whole_story() -> None:
    """Start, waves, losses, failures and drops each have a line, in their order."""
    told = _lines(sample_plan())
    begins = ("5 sets on somebody/a-model", "held-out loss after step 0: base", "training 18 trials at once")
    places = [next(place for place, line in enumerate(told) if line.startswith(begin)) for begin in begins]
    assert places == [0, 1, 2]
    assert any("diverged after step" in line for line in told)
    assert any(line.startswith("dropped qv, after") for line in told)
    assert told[-1].startswith("held-out loss after step 60")


def test_each_arm_is_told_once_a_measurement() -> None:
    """Of an arm's learning rates only the best is on the line."""
    (line,) = (
        line for line in _lines(sample_plan(), rounds=1) if line.startswith("held-out loss after step 6:")
    )
    assert line.count("mlp") == 1
    assert line.index("all-linear") < line.index("mlp") < line.index("qv")


def test_lines_say_now_and_then_that_it_goes_on() -> None:
    """A long silence ends with how far the work is and how long it may take."""
    assert any("trial steps" in line and "left" in line for line in _lines(sample_plan())[1:])


def test_the_count_ends_where_the_work_does() -> None:
    """At the end as many trial steps are done as were trained, and none is left."""
    watch = Watch()
    results = play(sample_plan(), watch)
    trained = sum(len(each.losses) for each in results if isinstance(each, Trained))
    now = watch.snapshot()
    failed_behind = now.done - trained
    assert now.expected == now.done
    assert 0 <= failed_behind <= 6, "the failed trial's steps are counted while it ran"
    assert now.seconds_left == 0


def test_what_is_done_is_no_longer_left() -> None:
    """A step of a wave moves the count, and not how much is expected in all."""
    watch = Watch()
    plan = sample_plan()
    results = play(plan, watch, rounds=1)
    before = watch.snapshot()
    trials = next_units(plan, results)[0].trials
    watch.step_done(trials, 1, [1.0] * len(trials), tokens=10, seconds=1.0)
    after = watch.snapshot()
    assert after.done == before.done + len(trials)
    assert after.expected == before.expected


def test_a_pilot_that_goes_on_counts_what_is_there() -> None:
    """A second run starts at the count of the first one, and ends at the same."""
    first, second = Watch(), Watch()
    results = play(sample_plan(), first, rounds=2)
    play(sample_plan(), second, results=results, rounds=0)
    assert second.snapshot().done == pytest.approx(first.snapshot().done, abs=6)
    assert second.snapshot().expected == pytest.approx(first.snapshot().expected, abs=6)
    assert second.dropped() == first.dropped() != {}


def test_what_is_left_is_exact_when_everything_is_known() -> None:
    """Where nothing can be dropped any more, what is left is what the protocol asks for."""
    results = play(sample_plan(), Observer(), rounds=2)
    stage = progress(sample_plan(), Ledger(results))
    asked = sum(len(unit.trials) * (unit.stop - unit.start) for unit in next_units(sample_plan(), results))
    assert stage.finalists
    assert remaining_steps(sample_plan(), stage) == asked > 0


@pytest.mark.parametrize(
    ("rungs", "seeds"), [((), (0,)), ((), (0, 1, 2)), ((0.5,), (0,)), ((0.1, 0.3), (0, 1))]
)
def test_the_first_estimate_is_near(rungs: tuple[float, ...], seeds: tuple[int, ...]) -> None:
    """Before the first step, the work is told to within a fifth."""
    plan = sample_plan()
    plan = replace(plan, protocol=replace(plan.protocol, rungs=rungs, seeds=seeds))
    watch = Watch()
    watch.started(plan, ())
    estimate = watch.snapshot().expected
    play(plan, watch)
    assert watch.snapshot().done == pytest.approx(estimate, rel=0.2)


def test_the_speed_is_of_the_last_steps() -> None:
    """Tokens a second are those of the wave that runs: 18 trials of 100 tokens in a tenth of a second."""
    watch = Watch()
    seen: list[float | None] = []

    class Looking(Watch):
        def unit_done(self, unit: Unit) -> None:
            super().unit_done(unit)
            seen.append(self.snapshot().tokens_per_second)

    watch = Looking()
    play(sample_plan(), watch, rounds=1)
    assert seen[-1] == pytest.approx(18_000)


def test_standings_are_sorted() -> None:
    """Whoever came furthest is first, among those the lowest loss; who is out comes last."""
    watch = Watch()
    play(sample_plan(), watch)
    names = [each.candidate for each in watch.snapshot().standings]
    assert names[:3] == ["full", "all-linear", "mlp"]
    assert set(names[-2:]) == {"qv", "attention"}
    base = next(each for each in watch.snapshot().standings if each.candidate == "base")
    assert base.step == 0
    assert base.loss == pytest.approx(BASE_LOSS + 0.15)


def test_the_live_display_shows_how_it_stands() -> None:
    """The bar's line, the arms and their losses are drawn; what happened is kept above."""
    watching, stream = _live()
    play(sample_plan(), watching, rounds=2)
    Console(file=stream, width=100, color_system=None, legacy_windows=False).print(watching.render())
    text = stream.getvalue()
    assert "dropped qv, after" in text
    assert "diverged after step" in text
    assert "tokens/s" in text
    for name in ("all-linear", "mlp", "base"):
        assert name in text.rpartition("held-out loss")[2]


def test_brackets_of_a_set_are_no_markup() -> None:
    """A set that is called by an expression is drawn as it is called, whatever rich would make of it."""
    name = "re:(mlp|[/b])"
    plan = sample_plan()
    named = tuple(replace(each, name=name) if each.name == "mlp" else each for each in plan.candidates)
    watching, stream = _live()
    play(replace(plan, candidates=named), watching, rounds=1)
    Console(file=stream, width=100, color_system=None, legacy_windows=False).print(watching.render())
    assert name in stream.getvalue().rpartition("held-out loss")[2]


def test_the_display_may_be_ended_twice() -> None:
    """Ending again what has ended does nothing."""
    watching, _ = _live()
    play(sample_plan(), watching, rounds=1)
    watching.finished()


def test_hostile_names_are_shown_harmlessly() -> None:
    """Neither lines nor display obey what a model's name or an engine's message carries."""
    plan = sample_plan()
    plan = replace(plan, model=replace(plan.model, model=HOSTILE))
    watching, drawn = _live()
    stream = StringIO()
    for watch in (watching, LineProgress(stream)):
        watch.said(f"[bold]{HOSTILE}")
        play(plan, watch, rounds=1)
    for text in (stream.getvalue(), drawn.getvalue()):
        assert "\x1b[31m" not in text
        assert "\u202e" not in text
        assert "[bold]x" in text
