"""Settings that all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hub_server import Hub

# A first import of pandas or torch inside an example is no slowness of the code under test.
settings.register_profile("lora-probe", deadline=None)
settings.load_profile("lora-probe")


@pytest.fixture(autouse=True, scope="session")
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep scans out of the user's cache, and the terminal (or pytest-xdist) from deciding what is shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORA_PROBE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute on one core: tiny models only wait for a second one, and Ray's workers need it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def hub_server() -> Iterator[Hub]:
    """Run one stand-in hub for all tests of a file."""
    from huggingface_hub import close_session

    from tests.hub_server import Hub

    close_session()  # a client of before may go through a proxy
    with Hub() as running:
        yield running
        close_session()


@pytest.fixture
def standin(hub_server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """Point the environment at the stand-in, with nothing served, cached or known."""
    for name in (
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_ENDPOINT", hub_server.address)
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "5")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    hub_server.repositories.clear()
    hub_server.requests.clear()
    return hub_server
