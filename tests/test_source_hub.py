"""The hub, played by a server on loopback, asked through huggingface_hub's real client."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from lora_probe.errors import (
    BadConfig,
    HubError,
    LoraProbeError,
    ModelNotFound,
)
from lora_probe.source import SourceKind, hub, locate
from lora_probe.source.tensors import SINGLE
from tests.hub_server import COMMIT, TOKEN, Hub, Repository

CONFIG = {"model_type": "llama", "hidden_size": 64}
FILES = {"config.json": json.dumps(CONFIG).encode()}
KNOWN = "meta-llama/Llama-3.1-8B"
"""A model of the catalogue."""


def test_a_found_config_is_cached_and_then_needs_no_network(standin: Hub) -> None:
    """The first look-up downloads config.json and nothing else, the second asks nobody."""
    standin.repositories["o/found"] = Repository(files={**FILES, SINGLE: b"weights"})
    found = locate("o/found")
    assert (found.kind, found.detail, found.revision) == (SourceKind.HUB, COMMIT, COMMIT)
    assert (found.config, found.repository, found.notes) == (CONFIG, "o/found", ())
    assert not any("safetensors" in request.path for request in standin.requests)
    standin.requests.clear()
    again = locate("o/found")
    assert (again.kind, again.config, again.folder) == (SourceKind.CACHE, CONFIG, found.folder)
    assert standin.requests == []


def test_what_the_catalogue_holds_needs_no_network(standin: Hub) -> None:
    """A catalogued model is not asked for on the hub, unless the hub is forced."""
    standin.repositories[KNOWN] = Repository(files=FILES)
    assert locate(KNOWN).kind is SourceKind.CATALOGUE
    assert standin.requests == []
    assert locate(KNOWN, source="hub").config == CONFIG


def test_a_forced_hub_asks_again_although_cached(standin: Hub) -> None:
    """``--source hub`` sees what has changed since the download."""
    standin.repositories["o/found"] = Repository(files=FILES)
    locate("o/found")
    standin.requests.clear()
    assert locate("o/found", source="hub").kind is SourceKind.HUB
    assert standin.requests != []


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_revision_is_asked_for(standin: Hub, revision: str) -> None:
    """A tag or a commit goes to the hub in the address."""
    standin.repositories["o/found"] = Repository(files=FILES)
    found = locate("o/found", revision=revision)
    assert found.revision == COMMIT
    assert any(f"/resolve/{revision}/" in request.path for request in standin.requests)


def test_an_unknown_revision_is_named(standin: Hub) -> None:
    """A branch that does not exist is not taken for a missing model."""
    standin.repositories["o/found"] = Repository(files=FILES)
    with pytest.raises(ModelNotFound, match="no revision 'v2'; give a branch"):
        locate("o/found", revision="v2")


def test_an_unknown_model_offers_close_ids(standin: Hub) -> None:
    """A 404 (or the 401 that the hub gives instead) says what to check, and which ids are near."""
    with pytest.raises(ModelNotFound, match=r"close names: .*Llama-3\.1-8B") as caught:
        locate("meta-llama/Llama-3.1-8")
    assert "hf auth login" in str(caught.value)
    with pytest.raises(ModelNotFound) as known:
        locate("meta-llama/Llama-3.1-8", token=TOKEN)
    assert "hf auth login" not in str(known.value)
    assert standin.requests != []


def test_a_gated_model_says_what_to_do(standin: Hub) -> None:
    """Without a token one must accept the terms and log in; with one, ask for access."""
    standin.repositories["o/gated"] = Repository(gated=True)
    with pytest.raises(HubError, match=r"gated; accept its terms at http.*/o/gated, then log in"):
        locate("o/gated")
    with pytest.raises(HubError, match="your token has no access; ask for access at"):
        locate("o/gated", token=TOKEN)


def test_a_token_is_sent_as_huggingface_hub_reads_it(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over HF_TOKEN, False sends none, and None reads the environment."""
    standin.repositories["o/private"] = Repository(private=True, files=FILES)
    with pytest.raises(ModelNotFound, match="if it is private, log in"):
        locate("o/private")
    assert standin.tokens("o/private") == {None}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ModelNotFound):
        locate("o/private", token=False)
    assert standin.tokens("o/private") == {None}
    standin.requests.clear()
    assert locate("o/private").config == CONFIG
    assert standin.tokens("o/private") == {TOKEN}
    with pytest.raises(ModelNotFound):
        locate("o/private", token="hf_other", source="hub")  # noqa: S106 -- of no use anywhere


def test_a_token_that_no_header_can_carry_is_refused(standin: Hub) -> None:
    """A token with a letter outside of ASCII is reported as what it is."""
    with pytest.raises(HubError, match="characters that no token has"):
        locate("o/found", token="hf_schlüssel")  # noqa: S106 -- of no use anywhere
    assert standin.requests == []


def test_a_renamed_repository_is_followed(standin: Hub) -> None:
    """The hub's 307 is followed, and the answer tells the new name."""
    standin.repositories["o/old"] = Repository(moved_to="new/name")
    standin.repositories["new/name"] = Repository(files=FILES)
    found = locate("o/old")
    assert (found.config, found.repository) == (CONFIG, "new/name")
    assert [note.message for note in found.notes] == ["the hub now calls o/old new/name"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "answered with status 400"),
        (403, "forbids access; check the permissions"),
        (429, "fewer requests; wait"),
        (500, "has trouble .status 500.; try again later"),
        (503, "has trouble .status 503.; try again later"),
    ],
)
def test_a_refusal_ends_at_once(standin: Hub, status: int, words: str) -> None:
    """No status keeps the user waiting through the client's retries."""
    standin.repositories["o/found"] = Repository(status=status)
    began = time.monotonic()
    with pytest.raises(HubError, match=words):
        locate("o/found")
    assert time.monotonic() - began < 5


def test_a_rejected_token_says_so(standin: Hub) -> None:
    """A 401 without more words is about the token."""
    standin.repositories["o/found"] = Repository(status=401)
    with pytest.raises(LoraProbeError, match="log in with `hf auth login`"):
        locate("o/found", token=TOKEN)


def test_a_silent_hub_is_given_up(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_ETAG_TIMEOUT bounds the wait for an answer, read when it is needed."""
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    standin.repositories["meta-llama/slow"] = Repository(wait=3)
    began = time.monotonic()
    with pytest.raises(HubError, match=r"cannot be reached .*timed out.*; check the connection"):
        locate("meta-llama/slow")
    assert time.monotonic() - began < 2.5


def test_the_whole_exchange_is_bounded(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers each request in time, yet never ends, is given up as well."""
    monkeypatch.setattr(hub, "MAX_SECONDS", 0.3)
    standin.repositories["o/slow"] = Repository(wait=1, files=FILES)
    with pytest.raises(HubError, match=r"no complete answer within 0\.3 s"):
        locate("o/slow")
    for thread in threading.enumerate():
        if thread.name == "lora-probe-request":
            thread.join()  # what it still asks belongs to this test


def test_a_refused_connection_is_one_sentence(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, the reason is the system's own, and close ids are offered all the same."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(HubError, match=r"cannot be reached .*refused") as caught:
            locate("meta-llama/Llama-3.1-8")
    assert KNOWN in caught.value.near
    assert isinstance(caught.value, ConnectionError)
    assert standin.requests == []


@pytest.mark.parametrize("address", ["rubbish", "http://[::1", "ftp://127.0.0.1"])
def test_an_impossible_endpoint_is_one_sentence(
    standin: Hub, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """HF_ENDPOINT may hold anything."""
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubError, match="cannot be reached"):
        locate("o/found")
    assert standin.requests == []


@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
def test_a_timeout_that_is_no_number_is_one_sentence(
    standin: Hub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """huggingface_hub itself would fail with a traceback while it is imported."""
    monkeypatch.setenv(name, "soon")
    with pytest.raises(HubError, match=f"{name} must be a whole number of seconds, got 'soon'"):
        locate("o/found")
    assert standin.requests == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_asks_nobody(standin: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Set to true, nothing is sent, and what is local is found all the same; set to false, it is no bar."""
    standin.repositories["o/found"] = Repository(files=FILES)
    monkeypatch.setenv(name, "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE forbids the network"):
        locate("o/found")
    assert locate(KNOWN).kind is SourceKind.CATALOGUE
    assert standin.requests == []
    monkeypatch.setenv(name, "0")
    assert locate("o/found").kind is SourceKind.HUB
    standin.requests.clear()
    monkeypatch.setenv(name, "1")
    assert locate("o/found").kind is SourceKind.CACHE
    assert standin.requests == []


def test_a_repository_without_config_says_so(standin: Hub) -> None:
    """A repository of another library, or of adapters, is told from a missing one."""
    standin.repositories["o/gguf"] = Repository(files={"model.gguf": b""})
    with pytest.raises(ModelNotFound, match=r"no config\.json; scan the original model"):
        locate("o/gguf")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>maintenance</html>", "a web page"),
        (b"version https://git-lfs", "LFS"),
        (b"[]", "a JSON array"),
    ],
)
def test_something_else_in_place_of_the_config_is_named(standin: Hub, content: bytes, words: str) -> None:
    """A page or pointer that was sent as config.json is told apart, with the file to delete."""
    standin.repositories["o/odd"] = Repository(files={"config.json": content})
    with pytest.raises(BadConfig, match=f"{words}.*delete the file"):
        locate("o/odd")


def test_a_huge_config_is_not_downloaded(standin: Hub) -> None:
    """The size is asked for first, and only then the file."""
    standin.repositories["o/huge"] = Repository(files=FILES, claimed_size=10**10)
    with pytest.raises(BadConfig, match="longer than 8 MiB"):
        locate("o/huge")
    assert not any(request.method == "GET" and "o/huge" in request.path for request in standin.requests)


def test_a_server_that_is_no_hub_is_recognised(standin: Hub) -> None:
    """An answer without the hub's headers points at HF_ENDPOINT or a proxy."""
    standin.repositories["o/found"] = Repository(files=FILES, revisions=frozenset({"main"}), commit="")
    with pytest.raises(HubError, match="does not answer like the hub; check HF_ENDPOINT"):
        locate("o/found")
