"""Runs survive: whatever ends a pilot, the next call ends with the numbers of one that nothing ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.piloting import checkpoint
from lora_probe.piloting.log import Log, read_history
from lora_probe.piloting.protocol import next_units
from lora_probe.piloting.records import Trained
from tests.pilot_fakes import FakeEngine, Heard, measured, run, small_plan

if TYPE_CHECKING:
    from pathlib import Path


class PowerCut(BaseException):
    """Ends a process at once, as far as it can see."""


class Durable:
    """Counts what is brought to the disk, and cuts the power at one of these moments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cut_at: int | None = None) -> None:
        self.count, self.cut_at = 0, cut_at
        for owner, name in ((Log, "append"), (checkpoint, "write_bytes")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, original: Any) -> Any:
        def write(*arguments: Any, **options: Any) -> None:
            self._pass()
            original(*arguments, **options)
            self._pass()

        return write

    def _pass(self) -> None:
        if self.count == self.cut_at:
            raise PowerCut
        self.count += 1


@pytest.mark.parametrize(
    ("engine", "stride"),
    [({}, 1), ({"size": 2}, 5), ({"fits": 3, "size": 4}, 3), ({"diverges": {"mlp": 2}}, 5)],
)
def test_power_may_fail_before_and_after_every_write(
    engine: dict[str, Any], stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at every moment in turn, a pilot always ends bit-equal: same waves, same order, nothing twice."""
    monkeypatch.setattr("os.fsync", lambda _: None)  # no power is really lost here, and disks are slow
    plan = small_plan()
    (tmp_path / "whole").mkdir()
    with monkeypatch.context() as patch:
        moments = Durable(patch)
        run(tmp_path / "whole", plan, FakeEngine(**engine))
    expected = measured(tmp_path / "whole")
    assert moments.count > 30
    for moment in range(0, moments.count, stride):
        folder = tmp_path / str(moment)
        folder.mkdir()
        with monkeypatch.context() as patch:
            Durable(patch, cut_at=moment)
            with pytest.raises(PowerCut):
                run(folder, plan, FakeEngine(**engine))
        run(folder, plan, FakeEngine(**engine))
        assert measured(folder) == expected, moment


def test_a_pilot_may_be_cut_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call that survives one evaluation interval brings the pilot further, to the same end."""
    plan = small_plan()
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    run(tmp_path / "whole", plan, FakeEngine(size=2))
    calls = 0
    while True:
        calls += 1
        with monkeypatch.context() as patch:
            Durable(patch, cut_at=9)
            try:
                run(tmp_path / "cut", plan, FakeEngine(size=2))
            except PowerCut:
                continue
            break
    assert 3 < calls < 60
    assert measured(tmp_path / "cut") == measured(tmp_path / "whole")


def test_a_resumed_wave_trains_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one evaluation interval is trained again."""
    plan = small_plan()
    with monkeypatch.context() as patch:
        Durable(patch, cut_at=20)
        with pytest.raises(PowerCut):
            run(tmp_path, plan, FakeEngine())
    logged = max(entry.step for entry in read_history(tmp_path).saved)
    engine = FakeEngine()
    run(tmp_path, plan, engine)
    _, step = engine.passes[0]
    assert step == logged > 0


def test_a_finished_pilot_trains_nothing(tmp_path: Path) -> None:
    """A further call finds all there, and no checkpoint is left."""
    run(tmp_path, small_plan(), FakeEngine())
    before = measured(tmp_path)
    engine = FakeEngine()
    assert run(tmp_path, small_plan(), engine) == ()
    assert engine.passes == []
    assert measured(tmp_path) == before
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_lost_checkpoints_cost_time_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its checkpoint a trial starts again from its first step, and the pilot says so."""
    plan = small_plan()
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", plan, FakeEngine())
    folder = tmp_path / "lost"
    folder.mkdir()
    with monkeypatch.context() as patch:
        Durable(patch, cut_at=20)
        with pytest.raises(PowerCut):
            run(folder, plan, FakeEngine())
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    heard = Heard()
    run(folder, plan, FakeEngine(), observer=heard)
    assert "trained again from their first step" in " ".join(heard.sentences)
    found, expected = measured(folder), measured(tmp_path / "whole")
    assert found.keys() == expected.keys()


def test_what_the_protocol_asks_for_is_replayed(tmp_path: Path) -> None:
    """Asked with the log of the whole pilot, the protocol wants nothing more."""
    plan = small_plan()
    run(tmp_path, plan, FakeEngine())
    results = read_history(tmp_path).results()
    assert next_units(plan, results) == ()
    assert any(isinstance(result, Trained) for result in results)


def test_each_line_of_the_log_is_plain_json(tmp_path: Path) -> None:
    """Other programs can read the log: one JSON object a line, without NaN."""
    run(tmp_path, small_plan(), FakeEngine(diverges={"mlp": 2}))

    def refuse(text: str) -> None:
        raise AssertionError(text)

    for line in (tmp_path / "results.jsonl").read_text().splitlines():
        document = json.loads(line, parse_constant=refuse)
        assert {"kind", "of"} <= set(document)
