"""What a pilot says of clusters before anything is loaded: no Ray runs here."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from lora_probe.errors import LoraProbeError
from lora_probe.piloting.cluster import Cluster
from lora_probe.piloting.cluster import connection as connection_module
from lora_probe.piloting.cluster.connection import require_cluster
from lora_probe.piloting.cluster.crew import Needs
from lora_probe.piloting.errors import BadPilotOption, MissingLibrary, NoCluster
from lora_probe.piloting.options import read_options
from lora_probe.piloting.run import pilot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("_ray_is_there")


@pytest.fixture
def _ray_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray need not be installed for these: nothing of it is loaded."""
    monkeypatch.setattr(connection_module, "find_spec", lambda name: name)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@contextmanager
def _server(answer: bytes | None) -> Iterator[str]:
    """Listen, and answer every caller with these bytes; None keeps silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            line, _ = server.accept()
            with line, suppress(OSError):  # the caller may have hung up
                line.recv(100)
                if answer is not None:
                    line.sendall(answer)
                line.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
    thread.join(5)


def test_nobody_answers(tmp_path: Path) -> None:
    """An address where nobody listens ends the call within seconds, before a folder is made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(NoCluster, match=rf"127\.0\.0\.1:{free}: Connection refused; see with `ray status`"):
        pilot("model", "data", out=tmp_path / "out", engine="ray", ray_address=f"127.0.0.1:{free}")
    assert time.monotonic() - start < 5
    assert not (tmp_path / "out").exists()


def test_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes the call and says nothing is not waited for."""
    monkeypatch.setattr(connection_module, "_PATIENCE", 0.2)
    with _server(None) as address, pytest.raises(NoCluster, match=r"no answer in 0\.2 seconds"):
        require_cluster(Cluster(address=address))


def test_another_service() -> None:
    """Ray would wait for a web server for more than a minute; here its first bytes give it away."""
    with (
        _server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(NoCluster, match="something else than a Ray cluster answers"),
    ):
        require_cluster(Cluster(address=address))


def test_a_server_of_the_right_kind() -> None:
    """A server that begins as gRPC does is let through; RAY_ADDRESS counts as everywhere."""
    with _server(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        require_cluster(Cluster())


@pytest.mark.parametrize(
    "address", ["head", "head:", "head:0", "head:70000", "ray://head:10001", "a b:1", ":1"]
)
def test_no_address(address: str) -> None:
    """What is no host and port is said before anybody is called."""
    with pytest.raises(BadPilotOption, match="--ray-address must be host:port"):
        require_cluster(Cluster(address=address))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, the sentence ends in what installs it."""
    monkeypatch.setattr(connection_module, "find_spec", lambda _: None)
    with pytest.raises(MissingLibrary, match=r"needs Ray, .*: pip install 'lora-probe\[ray\]'"):
        require_cluster(Cluster())


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "ray", "shard": "1/2"},
        {"engine": "ray", "verify": True},
        {"engine": "ray", "ray_cpus": 0.0},
        {"engine": "ray", "ray_cpus": float("nan")},
        {"engine": "ray", "ray_gpus": -1.0},
        {"ray_gpus": 1.0},
        {"engine": "stacked", "ray_address": "head:1"},
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object]) -> None:
    """Options that would be overlooked, or cannot be met, are refused."""
    with pytest.raises(LoraProbeError):
        read_options(options)


def test_a_pilot_does_not_remember_that_it_ran_on_a_cluster() -> None:
    """Where trials are trained is no part of a plan: it may go on elsewhere."""
    settings = read_options({"engine": "ray", "ray_gpus": 0.5})
    assert settings.engine == "auto"
    assert settings.cluster == Cluster(gpus=0.5)


def test_places_are_counted_by_machine() -> None:
    """A worker has all that it needs on one machine: two halves on two machines are no place."""
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert Needs(gpus=1, cpus=1).places(nodes) == 2
    assert Needs(gpus=0.5, cpus=1).places(nodes) == 4
    assert Needs(gpus=0, cpus=2).places(nodes) == 4
    assert Needs(gpus=0, cpus=1).places(nodes) == 9
    assert Needs(gpus=0, cpus=9).places(nodes) == 0


def test_a_bootstrap_of_one() -> None:
    """So few resamples that they make no interval are refused, rather than believed."""
    with pytest.raises(BadPilotOption, match=r"resamples must be a whole .* from 100 to .*, got 1"):
        read_options({"resamples": 1})
