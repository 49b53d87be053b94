"""Pilots on Ray clusters of several processes: the same numbers, whatever dies on the way."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.piloting.engine.layout import Layout
from lora_probe.piloting.log import read_history
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.run import pilot
from tests.pilot_fakes import measured
from tests.pilot_runs import OPTIONS, make_data, make_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lora_probe.piloting.records import Trial, Unit

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray leaves files open, and speaks of its future
]
SMALL: dict[str, Any] = {**OPTIONS, "wave": 2, "steps": 90}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data."""
    folder = tmp_path_factory.mktemp("pilot")
    make_model(folder / "model")
    make_data(folder / "data.jsonl")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _token() -> Iterator[None]:
    """Let all clusters of this process have one token: Ray reads it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import_module("ray")
        yield


class Saboteur(Observer):
    """Kills once: a process of the cluster, just after a wave went on from a checkpoint."""

    def __init__(self, victims: Callable[[int], tuple[int, ...]]) -> None:
        self.killed = False
        self.sentences: list[str] = []
        self._victims = victims

    def said(self, message: str) -> None:
        """Keep the sentence."""
        self.sentences.append(message)

    def wave_started(self, unit: Unit, trials: Sequence[Trial], step: int) -> None:
        """Find a worker that is at work, and kill it, or what its process belongs to."""
        del unit, trials
        at_work = _workers_of_mine()
        if step > 0 and at_work and not self.killed:
            for process in self._victims(at_work[0]):
                os.kill(process, signal.SIGKILL)
            self.killed = True


def _run(place: Path, out: Path, observer: Observer | None = None, **options: Any) -> None:
    report = pilot(
        place / "model", str(place / "data.jsonl"), out=out, observer=observer, **{**SMALL, **options}
    )
    assert report.complete
    assert not report.analysis.failures


def _run_here(place: Path, out: Path, like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in this process, in the layout that a cluster's first worker found to be the fastest."""
    layout = Layout.parse(read_history(like).waves[0].engine)
    monkeypatch.setattr("lora_probe.piloting.engine.choosing._fastest", lambda _: (layout, "as there"))
    _run(place, out)


def _parent(process: int) -> int:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:  # it is gone
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _descends_from(process: int, ancestor: int) -> bool:
    while process > 1 and process != ancestor:
        process = _parent(process)
    return process == ancestor


def _workers_of_mine() -> list[int]:
    """Return the processes that are at work at a wave, of clusters that this process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue
        number = int(path.parent.name)
        if title.startswith(b"ray::Worker.run") and _descends_from(number, os.getpid()):
            found.append(number)
    return found


def test_a_killed_worker_costs_a_stretch_and_changes_no_number(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pilot whose worker is hit by kill -9 in the middle of a wave ends bit-equal to one without Ray."""
    heard = Saboteur(lambda worker: (worker,))
    _run(place, tmp_path / "ray", heard, engine="ray", save_adapters=True)
    assert heard.killed
    assert any("a worker was lost" in sentence for sentence in heard.sentences)
    _run_here(place, tmp_path / "here", tmp_path / "ray", monkeypatch)
    assert measured(tmp_path / "ray") == measured(tmp_path / "here")
    adapters = list((tmp_path / "ray" / "adapters").iterdir())
    assert adapters
    assert all((each / "adapter_config.json").is_file() for each in adapters)
    _run(place, tmp_path / "ray")  # goes on without a cluster, and finds nothing left to do


def test_a_node_that_dies(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole machine of a cluster may go: its waves go on elsewhere, and end with the same numbers."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        heard = Saboteur(lambda worker: (_parent(worker), worker))  # the machine's own process, too
        _run(place, tmp_path / "ray", heard, engine="ray", ray_address=cluster.address)
        assert heard.killed
        assert any("a worker was lost" in sentence for sentence in heard.sentences)
    finally:
        ray.shutdown()
        cluster.shutdown()
    _run_here(place, tmp_path / "here", tmp_path / "ray", monkeypatch)
    assert measured(tmp_path / "ray") == measured(tmp_path / "here")


def test_more_than_there_is(place: Path, tmp_path: Path) -> None:
    """Where no machine has what a worker needs, the command says so instead of waiting without end."""
    words = [str(place / "model"), "--data", str(place / "data.jsonl"), "--out", str(tmp_path / "out")]
    more = ["--max-length=16", "--engine=ray", "--ray-cpus=5000"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "lora_probe", "pilot", *words, *more],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no machine of it has 5000 CPUs; lower --ray-gpus or --ray-cpus" in done.stderr.splitlines()[-1]
