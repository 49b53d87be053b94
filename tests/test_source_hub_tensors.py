"""Headers read from the hub by range: some kilobytes of each file, checked like local ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lora_probe.errors import BadCheckpoint, CheckpointNotFound, HubError
from lora_probe.source import locate, remote_tensors
from lora_probe.source.tensors import INDEX, SINGLE, checkpoint_tensors
from tests.checkpoints import header_bytes, index_bytes, safetensors_bytes
from tests.hub_server import TOKEN, Repository

if TYPE_CHECKING:
    from tests.hub_server import Hub

FILES = {"config.json": b'{"model_type": "unheard-of"}'}


def test_a_single_header_is_read_by_range(standin: Hub) -> None:
    """Of a large file only its first bytes travel."""
    content = safetensors_bytes({"x": [1000, 1000]})
    standin.repositories["o/one"] = Repository(files={**FILES, SINGLE: content})
    located = locate("o/one")
    standin.body_bytes = 0
    assert [info.shape for info in checkpoint_tensors(located)] == [(1000, 1000)]
    assert standin.body_bytes < len(content) / 10
    assert standin.requests[-1].range is not None


def test_a_long_header_takes_a_second_request(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into the first range is asked for exactly."""
    monkeypatch.setattr(remote_tensors, "_FIRST_BYTES", 20)
    standin.repositories["o/one"] = Repository(
        files={**FILES, SINGLE: safetensors_bytes({"x": [4], "y": [5]})}
    )
    located = locate("o/one")
    assert [info.name for info in checkpoint_tensors(located)] == ["x", "y"]
    assert standin.requests[-2].range == "bytes=0-19"


def test_a_server_without_ranges_does_not_send_the_file(standin: Hub) -> None:
    """Where the range is ignored, reading stops after the header."""
    content = safetensors_bytes({"x": [4000, 4000]})
    standin.repositories["o/one"] = Repository(files={**FILES, SINGLE: content}, ranges=False)
    assert [info.shape for info in checkpoint_tensors(locate("o/one"))] == [(4000, 4000)]


def test_shards_on_the_hub_are_joined(standin: Hub) -> None:
    """The index is fetched, then each shard's header, and a token goes along."""
    names = [f"model-{n}.safetensors" for n in range(12)]
    shards = {name: safetensors_bytes({f"t{n}": [n + 1]}) for n, name in enumerate(names)}
    index = index_bytes({f"t{n}": name for n, name in enumerate(names)})
    standin.repositories["o/many"] = Repository(private=True, files={**FILES, **shards, INDEX: index})
    located = locate("o/many", token=TOKEN)
    assert [info.shape for info in checkpoint_tensors(located, token=TOKEN)] == [(n + 1,) for n in range(12)]
    assert standin.tokens("o/many") == {TOKEN}
    assert not any(located.folder.glob("*.safetensors")) if located.folder else False


def test_a_cached_snapshot_with_all_weights_needs_no_network(standin: Hub) -> None:
    """Weights beside the cached config are read there; half of the shards are not enough."""
    shards = {"a.safetensors": safetensors_bytes({"x": [1]}), "b.safetensors": safetensors_bytes({"y": [2]})}
    index = index_bytes({"x": "a.safetensors", "y": "b.safetensors"})
    standin.repositories["o/many"] = Repository(files={**FILES, **shards, INDEX: index})
    located = locate("o/many")
    assert located.folder is not None
    located.folder.joinpath(INDEX).write_bytes(index)
    located.folder.joinpath("a.safetensors").write_bytes(shards["a.safetensors"])
    standin.requests.clear()
    assert [info.name for info in checkpoint_tensors(located)] == ["x", "y"]
    assert standin.requests != []
    located.folder.joinpath("b.safetensors").write_bytes(shards["b.safetensors"])
    standin.requests.clear()
    assert [info.name for info in checkpoint_tensors(located)] == ["x", "y"]
    assert standin.requests == []


def test_a_repository_without_safetensors_says_so(standin: Hub) -> None:
    """Pickled weights on the hub are not fetched."""
    standin.repositories["o/pickled"] = Repository(files={**FILES, "pytorch_model.bin": b""})
    located = locate("o/pickled")
    with pytest.raises(CheckpointNotFound, match="convert its weights to safetensors"):
        checkpoint_tensors(located)
    assert not any("pytorch_model" in request.path for request in standin.requests)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({SINGLE: header_bytes({"x": 3})}, "o/bad/model.safetensors on the hub cannot be trusted"),
        ({SINGLE: b"ab"}, "only 2 bytes"),
        ({SINGLE: b""}, "only 0 bytes"),
        (
            {INDEX: index_bytes({"x": "gone.safetensors"})},
            "it names gone.safetensors, which the repository lacks",
        ),
        ({INDEX: index_bytes({"x": "../../o/other"})}, "no file of its own folder"),
    ],
)
def test_a_lying_checkpoint_on_the_hub_is_refused(standin: Hub, files: dict[str, bytes], words: str) -> None:
    """The same checks hold for what comes by range."""
    standin.repositories["o/bad"] = Repository(files={**FILES, **files})
    located = locate("o/bad")
    with pytest.raises(BadCheckpoint) as caught:
        checkpoint_tensors(located)
    assert words in str(caught.value)


def test_slow_headers_are_given_up(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests for headers together are bounded, and none is begun afterwards."""
    standin.repositories["o/one"] = Repository(files={**FILES, SINGLE: safetensors_bytes({"x": [4]})})
    located = locate("o/one")
    monkeypatch.setattr(remote_tensors, "MAX_SECONDS", 0.0)
    standin.requests.clear()
    with pytest.raises(HubError, match="not all headers came within 0 s"):
        checkpoint_tensors(located)
    assert standin.requests == []
