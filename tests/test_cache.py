"""Kept scans are used when nothing changed, and cannot do harm when something did."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe import cache
from lora_probe.cache import cache_folder, cache_key, load, store
from lora_probe.graph import Note
from lora_probe.source import Located, SourceKind
from tests.handmade import make_graph, make_site, tiny_graph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY = "0" * 64
COMMIT = "a" * 40
VERSIONS: Mapping[str, str] = {"torch": "2.13.0", "transformers": "5.23.0"}
LOCATED = Located(
    model="acme/tiny",
    kind=SourceKind.HUB,
    detail=COMMIT,
    config={"model_type": "tiny", "hidden_size": 64},
    repository="acme/tiny",
    revision=COMMIT,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty folder of a cache of its own."""
    monkeypatch.setenv("LORA_PROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> list[str]:
    """Return the names of all files of a cache."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_kept_graph_comes_back_equal(folder: Path) -> None:
    """What is loaded is what was stored, in one file."""
    assert load(KEY) is None
    store(KEY, tiny_graph())
    assert load(KEY) == tiny_graph()
    assert entries(folder) == [f"{KEY}.json.gz"]


def test_the_key_is_stable() -> None:
    """The same question has the same key, whatever the order of its facts."""
    shuffled = replace(LOCATED, config=dict(reversed((LOCATED.config or {}).items())))
    assert cache_key(LOCATED, versions=VERSIONS) == cache_key(
        shuffled, versions=dict(reversed(VERSIONS.items()))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model": "acme/other"},
        {"kind": SourceKind.CATALOGUE},
        {"detail": "elsewhere"},
        {"config": {"model_type": "tiny", "hidden_size": 128}},
        {"config": None},
        {"repository": "acme/fork"},
        {"revision": "b" * 40},
        {"notes": (Note(code="new", message="note"),)},
    ],
    ids=str,
)
def test_every_fact_of_the_model_changes_the_key(change: dict[str, Any]) -> None:
    """An answer to another question is never given."""
    assert cache_key(replace(LOCATED, **change), versions=VERSIONS) != cache_key(LOCATED, versions=VERSIONS)


def test_versions_change_the_key() -> None:
    """Another transformers may build another model."""
    newer = {**VERSIONS, "transformers": "5.24.0"}
    assert cache_key(LOCATED, versions=newer) != cache_key(LOCATED, versions=VERSIONS)


def test_the_checkpoint_of_a_folder_changes_the_key(tmp_path: Path) -> None:
    """Headers may have been read, so a rewritten checkpoint is another question even at the same size."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    located = replace(LOCATED, kind=SourceKind.FOLDER, folder=tmp_path)
    before = cache_key(located, versions=VERSIONS)
    (tmp_path / "notes.txt").write_text("no part of the checkpoint")
    assert cache_key(located, versions=VERSIONS) == before
    weights.write_bytes(b"two")
    os.utime(weights, ns=(0, 1))
    assert cache_key(located, versions=VERSIONS) != before


def test_an_edited_package_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an editable install the rules may change without a new version: old answers are not given."""
    source = tmp_path / "package" / "roles.py"
    source.parent.mkdir()
    source.write_text("RULE = 1")
    monkeypatch.setattr(cache, "__file__", str(source.parent / "cache.py"))
    before = cache_key(LOCATED, versions=VERSIONS)
    assert cache_key(LOCATED, versions=VERSIONS) == before
    source.write_text("RULE = 12")
    assert cache_key(LOCATED, versions=VERSIONS) != before


@pytest.mark.parametrize(
    ("located", "versions", "options"),
    [
        (LOCATED, VERSIONS, {"trust_remote_code": True}),
        (replace(LOCATED, revision="main"), VERSIONS, {}),
        (replace(LOCATED, revision=None), VERSIONS, {}),
        (LOCATED, {"transformers": "5.24.0.dev0"}, {}),
        (LOCATED, {"torch": "2.14.0+git1234567"}, {}),
    ],
)
def test_what_may_change_unseen_is_never_kept(
    located: Located, versions: Mapping[str, str], options: dict[str, bool]
) -> None:
    """Remote code, a branch and a development checkout have no key."""
    assert cache_key(located, versions=versions, **options) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-1],
        lambda packed: packed[:40] + bytes([packed[40] ^ 255]) + packed[41:],
        lambda _packed: b"",
        lambda _packed: b"no gzip at all",
        lambda _packed: gzip.compress(b"{}"),
        lambda _packed: gzip.compress(b"\xff\xfe"),
        lambda packed: packed + b"more",
    ],
    ids=["half", "one byte short", "flipped", "empty", "foreign", "other document", "no text", "longer"],
)
def test_a_damaged_entry_is_removed_and_made_again(folder: Path, damage: Any) -> None:
    """Whatever happened to the file, the scan is repeated, never wrong and never an error."""
    store(KEY, tiny_graph())
    path = folder / f"{KEY}.json.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert load(KEY) is None
    assert entries(folder) == []
    store(KEY, tiny_graph())
    assert load(KEY) == tiny_graph()


def test_the_least_recently_used_entries_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder keeps to its bound, and reading an entry counts as using it."""
    keys = [digit * 64 for digit in "123"]
    for age, key in enumerate(keys):
        store(key, tiny_graph())
        os.utime(folder / f"{key}.json.gz", (1000 + age, 1000 + age))
    size = (folder / f"{keys[0]}.json.gz").stat().st_size
    assert load(keys[0]) is not None
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * size)
    store("4" * 64, tiny_graph())
    assert entries(folder) == sorted(f"{key}.json.gz" for key in (keys[0], keys[2], "4" * 64))


def test_a_graph_beyond_the_bound_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One absurd model does not empty the cache."""
    monkeypatch.setattr(cache, "MAX_BYTES", 10)
    store(KEY, tiny_graph())
    assert entries(folder) == []


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("source", "kept"), [("hub:x", False), ("catalogue:x", False), ("folder:/x", True)])
def test_headers_that_may_change_unseen_are_not_kept(source: str, kept: bool) -> None:
    """What a branch of a hub repository holds is asked again each time."""
    note = Note(code="read-from-headers", message="not built")
    store(KEY, replace(tiny_graph(), source=source, notes=(note,)))
    assert (load(KEY) is not None) == kept
    store(KEY, replace(tiny_graph(), source=source, notes=(note,), revision=COMMIT))
    assert load(KEY) is not None


def test_files_of_others_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is shared with other things loses only this package's entries."""
    folder.mkdir()
    (folder / "thesis.json.gz").write_text("precious")
    (folder / f"{KEY}.00000000.half").write_text("left by a killed process")
    os.utime(folder / f"{KEY}.00000000.half", (1, 1))
    (folder / f"{KEY}.11111111.half").write_text("being written")
    monkeypatch.setattr(cache, "MAX_BYTES", 10_000)
    store(KEY, tiny_graph())
    assert entries(folder) == sorted([f"{KEY}.11111111.half", f"{KEY}.json.gz", "thesis.json.gz"])


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place to keep scans the tool only becomes slower."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORA_PROBE_CACHE", str(tmp_path / "file" / "cache"))
    store(KEY, tiny_graph())
    assert load(KEY) is None


def test_a_full_disk_leaves_no_half_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last step fails, what was written for it is removed."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    store(KEY, tiny_graph())
    assert entries(folder) == []


def test_the_place_follows_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own variable wins, then XDG's where it is absolute, then the home folder."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("LORA_PROBE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lora-probe"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "lora-probe"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "lora-probe"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "lora-probe"


def test_a_user_without_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's nameless user scans as everybody else, only without keeping anything."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LORA_PROBE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", homeless)
    assert cache_folder() is None
    store(KEY, tiny_graph())
    assert load(KEY) is None


def _write_and_read(seconds: float) -> int:
    """Store and load under one key for a while; return how often a graph was not whole."""
    graphs = [
        make_graph([make_site(f"layers.{layer}.up", 8, 8) for layer in range(size)]) for size in (5, 500)
    ]
    end, wrong = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for graph in graphs:
            store(KEY, graph)
            found = load(KEY)
            wrong += found is not None and found not in graphs
            wrong += found is None
    return wrong


def test_two_processes_never_see_half_an_entry(folder: Path) -> None:
    """Writers that race for one key always leave a whole graph for their readers."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        assert pool.map(_write_and_read, [0.5, 0.5]) == [0, 0]
    assert entries(folder) == [f"{KEY}.json.gz"]
