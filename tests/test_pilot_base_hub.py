"""Weights from the hub: the files of the model and no others, and a sentence where they cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lora_probe.piloting.base import load_base, open_model
from lora_probe.piloting.errors import NoWeights
from lora_probe.piloting.records import Task
from tests.hub_server import Repository
from tests.pilot_runs import make_model

if TYPE_CHECKING:
    from tests.hub_server import Hub


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a small Llama's repository, with others that nobody needs."""
    folder = make_model(tmp_path_factory.mktemp("model"))
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    others = (
        "original/consolidated.00.safetensors",
        "pytorch_model.bin",
        "evil.py",
        "consolidated.safetensors",
    )
    return {**found, **dict.fromkeys(others, b"no")}


def test_weights_are_fetched_once(
    files: dict[str, bytes], standin: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub id is enough: what the model needs is fetched, and found in the cache the next time, offline."""
    standin.repositories["o/tiny"] = Repository(files=files)
    opened = open_model("o/tiny")
    names = {path.name for path in opened.folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not {"original", "pytorch_model.bin", "evil.py", "consolidated.safetensors"} & names
    base = load_base(opened, task=Task.CAUSAL_LM, device="cpu")
    assert base.facts.model == "o/tiny"
    assert base.facts.revision == opened.folder.name
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert open_model("o/tiny").folder == opened.folder


def test_a_cached_config_is_completed(files: dict[str, bytes], standin: Hub) -> None:
    """A scan leaves the config in the cache; a pilot then fetches the rest."""
    from lora_probe.source import locate

    standin.repositories["o/tiny"] = Repository(files=files)
    located = locate("o/tiny")
    assert located.folder is not None
    assert not (located.folder / "model.safetensors").exists()
    assert (open_model("o/tiny").folder / "model.safetensors").exists()


def test_a_repository_of_pickles(files: dict[str, bytes], standin: Hub) -> None:
    """Only pickled weights are no weights."""
    kept = {name: data for name, data in files.items() if not name.endswith(".safetensors")}
    standin.repositories["o/old"] = Repository(files=kept)
    with pytest.raises(NoWeights, match="pickled weights are never opened"):
        open_model("o/old")


def test_a_cached_config_offline(
    files: dict[str, bytes], standin: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known but not here: the sentence says which command brings it."""
    from lora_probe.source import locate

    standin.repositories["o/tiny"] = Repository(files=files)
    locate("o/tiny")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NoWeights, match=r"known from its config only.*hf download o/tiny"):
        open_model("o/tiny")


@pytest.mark.usefixtures("standin")
def test_a_catalogue_entry_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network allowed but nobody there, the way to the weights is said, too."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NoWeights) as error:
        open_model("meta-llama/Llama-3.1-8B")
    assert "hf download meta-llama/Llama-3.1-8B" in str(error.value)
