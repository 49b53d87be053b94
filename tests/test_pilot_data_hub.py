"""Dataset ids, through the real `datasets` library and a stand-in for the hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lora_probe.piloting.data import DataOptions, load_data
from lora_probe.piloting.data import hub as hub_module
from lora_probe.piloting.data.hub import read_dataset
from lora_probe.piloting.errors import DatasetUnavailable
from lora_probe.piloting.records import Task
from tests.hub_server import TOKEN, Repository
from tests.pilot_tokenizers import byte_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub_server import Hub

NAME = "datasets/acme/talk"
CARD = b"---\nlicense: mit\n---\n"


def lines(count: int, word: str = "row") -> bytes:
    """Return JSON Lines of texts."""
    return b"".join(json.dumps({"text": f"{word} {number}"}).encode() + b"\n" for number in range(count))


@pytest.fixture
def hub(standin: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Serve one dataset of two splits, with empty caches and a library that looks at the stand-in."""
    import datasets
    from huggingface_hub import HfFileSystem

    HfFileSystem.clear_instance_cache()  # it remembers what lay where
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", standin.address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        standin.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", standin.address)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for folder in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE", "DOWNLOADED_DATASETS_PATH"):
        monkeypatch.setattr(datasets.config, folder, str(tmp_path / folder.lower()))
    files = {"README.md": CARD, "data/train.jsonl": lines(100), "data/test.jsonl": lines(7, "test")}
    standin.repositories[NAME] = Repository(files=files)
    return standin


def texts(options: DataOptions | None = None) -> list[str]:
    """Return the texts that were read of the dataset."""
    return [row["text"] for row in read_dataset("acme/talk", options or DataOptions()).rows]


@pytest.mark.usefixtures("hub")
def test_the_train_split_is_read_unless_another_is_named() -> None:
    """Without a word `train` is read; a split or a slice of one can be named."""
    assert texts() == [f"row {number}" for number in range(100)]
    assert texts(DataOptions(split="test")) == [f"test {number}" for number in range(7)]
    assert texts(DataOptions(split="train[:10%]")) == [f"row {number}" for number in range(10)]


@pytest.mark.usefixtures("hub")
def test_a_dataset_becomes_data() -> None:
    """An id goes all the way to examples, and its rows are named in what is said of them."""
    data = load_data("acme/talk", task=Task.CAUSAL_LM, tokenizer=byte_tokenizer(), max_length=64)
    assert data.facts.source == "acme/talk"
    assert data.facts.train_examples + data.facts.tuning_examples + data.facts.test_examples == 100


def test_the_cache_serves_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read once is read again under HF_HUB_OFFLINE, with no request."""
    before = texts()
    hub.requests.clear()
    for constant in ("huggingface_hub.constants.HF_HUB_OFFLINE", "datasets.config.HF_HUB_OFFLINE"):
        monkeypatch.setattr(constant, True)
    assert texts() == before
    assert hub.requests == []


def test_a_large_dataset_is_streamed(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Above the limit only the rows that are asked for are read, and no copy is kept."""
    monkeypatch.setattr(hub_module, "_LARGEST_DOWNLOAD", 10)
    rows = read_dataset("acme/talk", DataOptions(max_examples=20))
    assert [row["text"] for row in rows.rows] == [f"row {number}" for number in range(20)]
    assert rows.more
    assert not list((tmp_path / "hf_datasets_cache").rglob("*.arrow"))
    assert not any("test.jsonl" in request.path for request in hub.requests)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"gated": True}, DataOptions(), "it is gated and your account has no access"),
        (
            {"private": True},
            DataOptions(),
            "no file or folder here has that name, nor any dataset on the hub",
        ),
        ({"status": 520}, DataOptions(), "does not give it"),
        ({}, DataOptions(revision="v9"), "it has no revision 'v9'"),
        ({}, DataOptions(split="dev"), "it has no split 'dev'; name one of train, test with --data-split"),
        ({}, DataOptions(name="small"), "BuilderConfig 'small' not found"),
        ({"files": {"README.md": CARD, "talk.py": b"1/0"}}, DataOptions(), "scripts are never run"),
        ({"files": {"README.md": CARD}}, DataOptions(), "holds no files of a known format"),
        (
            {"files": {"README.md": CARD, "data/train.jsonl": b'{"a": 1}\n{"a'}},
            DataOptions(),
            "cannot be read",
        ),
    ],
    ids=["gated", "private", "in trouble", "revision", "split", "configuration", "script", "empty", "broken"],
)
def test_what_a_dataset_does_not_give_is_said(
    hub: Hub, change: dict[str, object], options: DataOptions, said: str
) -> None:
    """Each way in which an id gives no rows is one sentence that names the dataset."""
    for name, value in change.items():
        setattr(hub.repositories[NAME], name, value)
    with pytest.raises(DatasetUnavailable, match=said) as caught:
        read_dataset("acme/talk", options)
    assert str(caught.value).startswith("the dataset acme/talk: ")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_an_unknown_id_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, an id that no cache holds is refused with the reason."""
    for constant in ("huggingface_hub.constants.HF_HUB_OFFLINE", "datasets.config.HF_HUB_OFFLINE"):
        monkeypatch.setattr(constant, True)
    with pytest.raises(DatasetUnavailable, match="HF_HUB_OFFLINE forbids the network"):
        read_dataset("acme/other", DataOptions())


def test_a_private_dataset_opens_to_its_token(hub: Hub) -> None:
    """The token that is given reaches the hub."""
    hub.repositories[NAME].private = True
    assert len(texts(DataOptions(token=TOKEN))) == 100
