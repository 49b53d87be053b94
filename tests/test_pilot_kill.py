"""Real pilots in processes that are killed: what is resumed ends bit-equal, on either engine."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.piloting.errors import ChangedUnderneath, PlanDiffers
from lora_probe.piloting.run import compare, pilot
from tests.pilot_fakes import measured
from tests.pilot_runs import OPTIONS, make_data, make_model, run_pilot

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

PRELOADED = ["torch", "transformers", "peft", "tests.pilot_runs", "lora_probe.piloting.run"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data."""
    folder = tmp_path_factory.mktemp("pilot")
    make_model(folder / "model")
    make_data(folder / "data.jsonl")
    return folder


def _start(place: Path, out: Path, options: dict[str, Any]) -> BaseProcess:
    # A fork server has imported the libraries once, and no thread of them runs in it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    arguments = (str(place / "model"), str(place / "data.jsonl"), str(out), options)
    process = context.Process(target=run_pilot, args=arguments)
    process.start()
    return process


def _run(place: Path, out: Path, options: dict[str, Any]) -> None:
    process = _start(place, out, options)
    process.join(300)
    assert process.exitcode == 0


def _kill_when(process: BaseProcess, log: Path, size: int) -> bool:
    """Kill a process once its log has `size` bytes; return whether it was still at work."""
    while process.is_alive() and not (log.exists() and log.stat().st_size >= size):
        time.sleep(0.002)
    working = process.is_alive()
    process.kill()
    process.join()
    return working


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_killed_at_random_points(engine: str, place: Path, tmp_path: Path) -> None:
    """However often kill -9 hits a pilot, and wherever, it ends with the numbers of one that ran through."""
    options = {**OPTIONS, "engine": engine}
    _run(place, tmp_path / "whole", options)
    size = (tmp_path / "whole" / "results.jsonl").stat().st_size
    draw = random.Random(engine)  # noqa: S311 - no secret
    kills = 0
    for point in sorted(draw.sample(range(size), 5)):
        process = _start(place, tmp_path / "killed", options)
        kills += _kill_when(process, tmp_path / "killed" / "results.jsonl", point)
    _run(place, tmp_path / "killed", options)
    assert kills >= 3
    assert measured(tmp_path / "killed") == measured(tmp_path / "whole")
    whole, killed = (compare(tmp_path / name) for name in ("whole", "killed"))
    assert killed.complete
    assert killed.analysis.verdict == whole.analysis.verdict
    assert killed.analysis.leaderboard == whole.analysis.leaderboard


def test_shards_in_processes_of_their_own(place: Path, tmp_path: Path) -> None:
    """Two processes side by side measure the trials of one, each in its own file."""
    _run(place, tmp_path / "alone", {**OPTIONS, "wave": 1})
    out = tmp_path / "shared"
    shards = [_start(place, out, {**OPTIONS, "wave": 1, "shard": f"{index}/2"}) for index in (1, 2)]
    for process in shards:
        process.join(300)
        assert process.exitcode == 0
    while not compare(out).complete:  # one may have come so late that the other did not wait
        for index in (1, 2):
            _run(place, out, {**OPTIONS, "wave": 1, "shard": f"{index}/2"})
    assert measured(out) == measured(tmp_path / "alone")
    assert {path.name for path in out.glob("results*")} == {"results-1-of-2.jsonl", "results-2-of-2.jsonl"}


def test_what_may_not_change_between_calls(place: Path, tmp_path: Path) -> None:
    """Another plan, other weights, other data: each is refused with what is different."""
    model, data, out = tmp_path / "model", tmp_path / "data.jsonl", tmp_path / "out"
    shutil.copytree(place / "model", model)
    shutil.copy(place / "data.jsonl", data)
    options = {**OPTIONS, "steps": 4, "seeds": (0,), "rerun": False}
    pilot(str(model), str(data), out=out, **options)
    with pytest.raises(PlanDiffers, match=r"training\.steps is 4 there and 5 here"):
        pilot(str(model), str(data), out=out, **{**options, "steps": 5})
    make_data(data, seed=1)
    with pytest.raises(ChangedUnderneath, match=r"the data .*data\.jsonl is not what the pilot"):
        pilot(str(model), str(data), out=out, **options)
    make_data(data)
    weights = model / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ChangedUnderneath, match=r"the model .*model is not what the pilot"):
        pilot(str(model), str(data), out=out, **options)
