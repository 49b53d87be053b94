"""The loop of a pilot: waves that fit, failures that become rows, and work that is shared."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.log import read_history
from lora_probe.piloting.passes import evaluation_steps
from lora_probe.piloting.records import Evaluated, Failure, Split, Trained, Unit
from lora_probe.piloting.shards import Shard, read_shard
from tests.pilot_fakes import FakeEngine, Heard, measured, run, small_plan

if TYPE_CHECKING:
    from pathlib import Path


def test_a_wave_that_does_not_fit_is_halved(tmp_path: Path) -> None:
    """Out of memory costs a sentence and a wave, not the pilot; the base fits always."""
    plan, heard, engine = small_plan(), Heard(), FakeEngine(fits=2)
    run(tmp_path, plan, engine, observer=heard)
    sizes = [len(trials) for trials, _ in engine.passes]
    assert max(sizes) > 2
    assert any("did not fit into memory: going on with" in sentence for sentence in heard.sentences)
    assert not heard.failures
    assert engine.open == 0


def test_halves_go_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    """What a wave had learned before it ran out of memory is not trained again."""
    plan, engine = small_plan("qv", "mlp", rungs=()), FakeEngine(fits=3, starved_at=6)
    run(tmp_path, plan, engine)
    starts = [step for trials, step in engine.passes if len(trials) == 3]
    assert starts
    assert 4 in starts


def test_what_does_not_fit_alone_has_failed(tmp_path: Path) -> None:
    """A trial for which there is never memory is a row with that reason."""
    heard = Heard()
    run(tmp_path, small_plan(), FakeEngine(fits=0), observer=heard)
    assert {each.failure for each in heard.failures} == {Failure.OUT_OF_MEMORY}
    assert {each.trial.candidate for each in heard.failures} == {"qv", "mlp", "attention"}


def test_a_crash_is_found_among_the_others(tmp_path: Path) -> None:
    """The trial whose pass breaks fails alone, with its reason on one line; the others are measured."""
    heard = Heard()
    run(tmp_path, small_plan(), FakeEngine(breaks={"mlp": 1}), observer=heard)
    assert {each.trial.candidate for each in heard.failures} == {"mlp"}
    assert {each.reason for each in heard.failures} == {"RuntimeError: the kernel is broken"}
    finished = {
        result.trial.candidate
        for result in read_history(tmp_path).results()
        if isinstance(result, Evaluated) and result.split is Split.TEST
    }
    assert {"qv", "attention"} <= finished


def test_a_diverged_trial_stays_in_its_wave(tmp_path: Path) -> None:
    """Its losses up to then are kept, it is evaluated no more, and it is logged as failed once."""
    heard, engine = Heard(), FakeEngine(diverges={"mlp": 1})
    run(tmp_path, small_plan(rungs=()), engine, observer=heard)
    assert len(heard.failures) == len({each.trial for each in heard.failures})
    results = read_history(tmp_path).results()
    for failed in heard.failures:
        own = [result for result in results if result.trial == failed.trial]
        assert not any(isinstance(result, Evaluated) for result in own)
        assert [len(result.losses) for result in own if isinstance(result, Trained)] == [1]


def test_ctrl_c_goes_through(tmp_path: Path) -> None:
    """An interrupt is no crash of a trial, and the session is closed."""

    class Interrupted(Heard):
        def step_done(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    engine, heard = FakeEngine(), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, small_plan(), engine, observer=heard)
    assert heard.failures == []
    assert engine.open == 0


def test_a_bug_in_an_observer_is_no_failed_trial(tmp_path: Path) -> None:
    """What breaks outside of the engine keeps its traceback."""

    class Broken(Heard):
        def step_done(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, small_plan(), FakeEngine(), observer=Broken())


def test_curves_of_different_units_meet() -> None:
    """Evaluations fall on the steps of the whole run, and on a unit's own end."""
    plan = small_plan(steps=12)
    unit = Unit(trials=(), start=3, stop=10, splits=(Split.TUNING,))
    assert evaluation_steps(plan, unit) == (4, 8, 10)


def test_dead_adapters_are_spoken_of_at_once(tmp_path: Path) -> None:
    """Once a trial's first stretch is over, an adapter without gradient is named."""
    heard = Heard()
    run(tmp_path, small_plan("qv", "mlp", seeds=(0,), grid=(1.0,), rerun=False), FakeEngine(), observer=heard)
    said = [each for each in heard.sentences if "no gradient reaches" in each]
    assert said == ["qv: no gradient reaches model.dead", "mlp: no gradient reaches model.dead"]


def test_dead_adapters_are_logged_once(tmp_path: Path) -> None:
    """The gradient check belongs to the first stretch of a unit."""
    plan = small_plan("qv", "mlp", rungs=())
    run(tmp_path, plan, FakeEngine())
    results = read_history(tmp_path).results()
    stretches = [each for each in results if isinstance(each, Trained)]
    assert {each.dead for each in stretches if each.start == 0} == {("model.dead",)}
    assert {each.dead for each in stretches if each.start > 0} == {None}
    assert analyse(plan, results).dead_adapters == {"qv": ("model.dead",), "mlp": ("model.dead",)}


def test_adapters_of_finished_trials_are_kept(tmp_path: Path) -> None:
    """Every trial that reached the last step leaves its adapter, in a folder with a harmless name."""
    plan = small_plan("../qv", "mlp", rungs=())
    run(tmp_path, plan, FakeEngine(), save_adapters=True)
    folders = sorted(path.name for path in (tmp_path / "adapters").iterdir())
    assert folders[0] == "1-qv-lr0.0001-seed0"
    assert len(folders) > 6


def test_shards_measure_what_one_process_measures(tmp_path: Path) -> None:
    """Two processes at once share all trials, wait for each other, and end with one complete pilot."""
    plan = small_plan()
    for name in ("alone", "shared"):
        (tmp_path / name).mkdir()
    run(tmp_path / "alone", plan, FakeEngine(size=1))
    engines = [FakeEngine(size=1), FakeEngine(size=1)]
    ends: list[tuple[str, ...]] = []

    def work(index: int) -> None:
        ends.append(run(tmp_path / "shared", plan, engines[index - 1], shard=Shard(index=index, count=2)))

    threads = [threading.Thread(target=work, args=(index,)) for index in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # One may have been late: the first one then ends early, and asks for both to be called again.
    if ends != [(), ()]:
        for index in (1, 2, 1, 2, 1, 2):
            run(tmp_path / "shared", plan, engines[index - 1], shard=Shard(index=index, count=2))
    assert measured(tmp_path / "shared") == measured(tmp_path / "alone")
    assert all(engine.passes for engine in engines)
    assert not {trials for trials, _ in engines[0].passes} & {trials for trials, _ in engines[1].passes}


def test_a_shard_alone_says_whom_it_waits_for(tmp_path: Path) -> None:
    """Once its share of a round is done and nobody is at the rest, a shard ends and names who is missing."""
    plan = small_plan()
    waiting: set[str] = set()
    for _ in range(12):
        for index in (1, 2):
            absent = run(tmp_path, plan, FakeEngine(), shard=Shard(index=index, count=2))
            waiting.update(absent)
    assert absent == ()
    assert waiting == {"1/2", "2/2"}


def test_one_process_takes_over_what_shards_began(tmp_path: Path) -> None:
    """Alone, a process goes on with anybody's waves."""
    plan = small_plan()
    run(tmp_path, plan, FakeEngine(), shard=Shard(index=1, count=2))
    assert run(tmp_path, plan, FakeEngine()) == ()


def test_work_is_dealt_out_evenly() -> None:
    """Every trial has one owner, and a grid of them is divided almost equally."""
    plan = small_plan("a", "b", "c", "d")
    from lora_probe.piloting.records import Trial

    trials = [
        Trial(candidate=name, learning_rate=2e-4 * factor, seed=seed)
        for name in "abcd"
        for factor in (0.25, 0.5, 1.0, 2.0)
        for seed in (0, 1)
    ]
    for count in (2, 3, 4):
        owners = [Shard(index=1, count=count).owner(trial, plan) for trial in trials]
        assert set(owners) == set(range(1, count + 1))
        assert max(map(owners.count, owners)) - min(map(owners.count, owners)) <= 2


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "1/0", "\u0661/2"])
def test_a_shard_that_is_none(text: str) -> None:
    """Anything but i/n with i from 1 to n is refused in a sentence."""
    from lora_probe.piloting.errors import BadPilotOption

    with pytest.raises(BadPilotOption, match="must be i/n with i from 1 to n"):
        read_shard(text)
