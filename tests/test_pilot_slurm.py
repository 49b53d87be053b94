"""A pilot shared by processes that only have its folder in common: GPUs of a box, tasks of Slurm."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from lora_probe.piloting.run import compare
from tests.documents import ROOT, blocks
from tests.pilot_fakes import measured
from tests.pilot_runs import make_data, make_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ray
SETTINGS = shlex.split(
    "-c attention -c mlp --rank 2 --steps 12 --rungs none --no-rerun --seeds 2 --max-length 16 "
    "--batch-size 2 --tuning-items 8 --test-items 8 --evaluations 3 --learning-rate 0.005 --extensions 0 "
    "--resamples 200 --wave 1 --device cpu --quiet"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data, and what one process alone measures on them."""
    folder = tmp_path_factory.mktemp("pilot")
    make_model(folder / "model")
    make_data(folder / "data.jsonl")
    done = _shard(folder, folder / "alone")
    assert done.wait() == 0
    return folder


def _command(place: Path, out: Path, *more: str) -> list[str]:
    words = ["pilot", str(place / "model"), "--data", str(place / "data.jsonl"), "--out", str(out)]
    return [sys.executable, "-m", "lora_probe", *words, *SETTINGS, *more]


def _shard(place: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(place, out, *more),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_one_of_two_is_killed_and_started_again(place: Path, tmp_path: Path) -> None:
    """A shard that kill -9 hit is called again, and all is measured once; further calls change nothing."""
    out = tmp_path / "out"
    first, second = (_shard(place, out, "--shard", f"{index}/2") for index in (1, 2))
    log = out / "results-2-of-2.jsonl"
    while second.poll() is None and not (log.exists() and log.stat().st_size > 6000):
        time.sleep(0.002)
    assert second.poll() is None
    second.kill()
    second.wait()
    second = _shard(place, out, "--shard", "2/2")
    assert [first.wait(), second.wait()] == [0, 0]
    while not compare(out).complete:  # the first may have gone while the second was away
        assert _shard(place, out, "--shard", "1/2").wait() == 0
        assert _shard(place, out, "--shard", "2/2").wait() == 0
    assert measured(out) == measured(place / "alone")
    before = {path: path.read_bytes() for path in out.glob("results*")}
    assert _shard(place, out, "--shard", "1/2").wait() == 0
    assert {path: path.read_bytes() for path in out.glob("results*")} == before


def test_shards_one_after_another(place: Path, tmp_path: Path) -> None:
    """Shards that never run at the same time do not wait for each other: they take turns until it is done."""
    out = tmp_path / "out"
    turns = 0
    while turns == 0 or not compare(out).complete:
        assert _shard(place, out, "--shard", f"{turns % 2 + 1}/2").wait(120) == 0
        turns += 1
    assert 2 < turns < 40
    assert measured(out) == measured(place / "alone")


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # submitit's own
def test_the_submit_script_of_the_readme(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script that README gives for Slurm does its work where submitit runs jobs on this machine."""
    submitit = pytest.importorskip("submitit")
    (script,) = [block.text for block in blocks("py") if "submitit" in block.text]
    _, marked, rest = script.partition("# What follows is the same for every pilot.\n")
    assert marked
    rest = rest.replace("submitit.AutoExecutor(", 'submitit.AutoExecutor(cluster="local", ')
    assert "local" in rest
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = tmp_path / "pilot"
    own = {"submitit": submitit, "OUT": str(out), "COMMAND": _command(place, out), "SHARDS": 2}
    exec(compile(rest, "README.md", "exec"), own)  # noqa: S102 - the reader would, too
    assert compare(out).complete
    assert measured(out) == measured(place / "alone")
