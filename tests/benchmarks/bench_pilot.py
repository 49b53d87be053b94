"""Eight trials of a pilot at once, against the two ways in which people would train them with PEFT.

Each round measures every way once before the next round begins, so that a machine that becomes slower
meanwhile slows all of them. A way's first step after the others had their turns is not timed: it pays for
memory that was given back meanwhile, as no run of hundreds of steps does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks.pilot_subjects import (
    LAYERS,
    Bare,
    Chosen,
    Frozen,
    Load,
    Loops,
    Processes,
    Stacked,
    seconds,
)

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 5
TOKENS_OF_A_ROUND = 256
"""Of one trial: so that short steps are repeated within a round."""
LOADS = (
    Load(trials=8, rows=1, tokens=16),
    Load(trials=8, rows=1, tokens=64),
    Load(trials=8, rows=2, tokens=128),
    Load(trials=4, rows=4, tokens=256),
    Load(trials=8, rows=2, tokens=128, top=LAYERS // 4),
)

pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("load", LOADS, ids=str)
def test_pilot(load: Load, benchmark: BenchmarkFixture) -> None:
    """Time one step of all trials in each way."""
    chosen = Chosen(load)
    ways: dict[str, Any] = {
        "engine": chosen,
        "one stack": Stacked(load),
        "PEFT loops": Loops(load),
        "two PEFT processes": Processes(load, Loops),
        "two stacking processes": Processes(load, Stacked),
    }
    if load.top == LAYERS:
        ways["frozen base"] = Frozen(load)
    try:
        times = _rounds(ways, load, benchmark)
    finally:
        for way in ways.values():
            if isinstance(way, Processes):
                way.close()
    facts = {"trials": load.trials, "rows": load.rows, "tokens": load.tokens, "top": load.top}
    benchmark.extra_info.update(pilot=facts, seconds=times, choice=chosen.reason)


@pytest.mark.parametrize(
    "load", [Load(trials=1, rows=1, tokens=64), Load(trials=1, rows=2, tokens=256)], ids=str
)
def test_one_trial(load: Load, benchmark: BenchmarkFixture) -> None:
    """Time a whole step of a single trial against the bare forward and backward of PEFT's model."""
    times = _rounds({"engine": Stacked(load), "bare": Bare(load)}, load, benchmark)
    benchmark.extra_info.update(alone=f"{load.rows} x {load.tokens}", seconds=times)


def _rounds(ways: dict[str, Any], load: Load, benchmark: BenchmarkFixture) -> dict[str, list[float]]:
    """Return the seconds of a step in each round of each way."""
    steps = max(1, TOKENS_OF_A_ROUND // (load.rows * load.tokens))
    times: dict[str, list[float]] = {name: [] for name in ways}

    def one_round() -> None:
        for name, way in ways.items():
            way.run(1)
            times[name].append(seconds(way, steps))

    for way in ways.values():
        way.run(1)
    benchmark.pedantic(one_round, rounds=ROUNDS)
    return times
