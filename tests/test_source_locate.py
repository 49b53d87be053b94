"""Where a model is looked for, and what is said when it is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_probe import catalog
from lora_probe.errors import (
    BadConfig,
    HubError,
    LoraProbeError,
    ModelNotFound,
    SourceUnavailable,
)
from lora_probe.source import SourceKind, locate
from tests.hub_server import COMMIT

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64}
KNOWN = "meta-llama/Llama-3.1-8B"
"""A model of the catalogue."""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give each test an empty hub cache, and forbid the network."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "home" / "hub"


def write_config(folder: Path, config: object = LLAMA) -> Path:
    """Write a ``config.json`` into a new folder, and return the folder."""
    folder.mkdir(parents=True)
    folder.joinpath("config.json").write_text(json.dumps(config))
    return folder


def write_cached(cache: Path, model: str, *, commit: str = COMMIT, ref: str = "main") -> Path:
    """Put a model into a hub cache, in the layout that huggingface_hub documents."""
    repository = cache / f"models--{model.replace('/', '--')}"
    repository.joinpath("refs", ref).parent.mkdir(parents=True, exist_ok=True)
    repository.joinpath("refs", ref).write_text(commit)
    return write_config(repository / "snapshots" / commit)


def test_a_folder_is_found_by_its_config(tmp_path: Path) -> None:
    """A folder with a config.json is a model, and stays known as the place of its weights."""
    folder = write_config(tmp_path / "model")
    found = locate(folder)
    assert (found.kind, found.detail, found.folder) == (SourceKind.FOLDER, str(folder), folder)
    assert found.config == LLAMA
    assert found.repository is None


def test_a_config_file_may_have_any_name(tmp_path: Path) -> None:
    """A path to a file is read as a config, whatever it is called."""
    path = write_config(tmp_path / "model").joinpath("config.json").rename(tmp_path / "llama-64.json")
    found = locate(str(path))
    assert (found.kind, found.detail) == (SourceKind.CONFIG, str(path))
    assert found.config == LLAMA


def test_a_path_that_exists_is_local_even_if_it_reads_like_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder ``meta-llama/Llama-3.1-8B`` wins over the model of that id."""
    write_config(tmp_path / KNOWN)
    monkeypatch.chdir(tmp_path)
    assert locate(KNOWN).kind is SourceKind.FOLDER
    assert locate(KNOWN, source="catalogue").kind is SourceKind.CATALOGUE


def test_a_path_object_is_never_an_id(tmp_path: Path) -> None:
    """Who passes a Path means a path: no other source is asked."""
    with pytest.raises(ModelNotFound, match="no such file or folder"):
        locate(tmp_path / "gone")
    with pytest.raises(ModelNotFound, match="no such file or folder"):
        locate(Path("openai-community/gpt2"))


@pytest.mark.parametrize(
    "text", ["./gone", "../gone", "/gone/away", "~/gone", "gone/config.json", "a/b/c", "gone/", "c:\\gone"]
)
def test_what_can_only_be_a_path_is_not_asked_for_elsewhere(text: str) -> None:
    """A path that does not exist is reported as such, not as an unknown hub id."""
    with pytest.raises(ModelNotFound, match="no such file or folder") as caught:
        locate(text)
    assert isinstance(caught.value, FileNotFoundError)


def test_the_cache_comes_before_the_catalogue(own_cache: Path) -> None:
    """What the hub has given before is nearer to the truth than the package's copy."""
    assert locate(KNOWN).kind is SourceKind.CATALOGUE
    folder = write_cached(own_cache, KNOWN)
    found = locate(KNOWN)
    assert (found.kind, found.detail, found.revision) == (SourceKind.CACHE, COMMIT, COMMIT)
    assert (found.folder, found.repository, found.config) == (folder, KNOWN, LLAMA)
    assert locate(KNOWN, source="catalogue").config == catalog.find(KNOWN).config  # type: ignore[union-attr]


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
def test_the_cache_is_where_the_environment_says(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of huggingface_hub's variables moves the cache, also after the package was imported."""
    write_cached(tmp_path / "elsewhere", "owner/name")
    with pytest.raises(HubError):
        locate("owner/name")
    monkeypatch.setenv("ELSEWHERE", str(tmp_path))
    monkeypatch.setenv(variable, "$ELSEWHERE/elsewhere")
    assert locate("owner/name").kind is SourceKind.CACHE


def test_the_cache_follows_xdg_and_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables of its own the hub's cache is in the user's cache folder."""
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    write_cached(tmp_path / "xdg" / "huggingface" / "hub", "owner/xdg")
    assert locate("owner/xdg").kind is SourceKind.CACHE
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    write_cached(tmp_path / "user" / ".cache" / "huggingface" / "hub", "owner/home")
    assert locate("owner/home").kind is SourceKind.CACHE


def test_a_revision_is_a_branch_a_tag_or_a_commit(own_cache: Path) -> None:
    """Each way to name a state of the repository finds its own snapshot in the cache."""
    other = "f" * 40
    write_cached(own_cache, "owner/name")
    write_cached(own_cache, "owner/name", commit=other, ref="refs/pr/1")
    assert locate("owner/name").revision == COMMIT
    assert locate("owner/name", revision="refs/pr/1").revision == other
    assert locate("owner/name", revision=other).revision == other


@pytest.mark.parametrize("revision", ["../../main", "/refs/main", "gone", "a" * 40, "\0"])
def test_a_revision_that_is_not_cached_is_not_found_there(own_cache: Path, revision: str) -> None:
    """No spelling of a revision reaches a file outside of the repository's references."""
    write_cached(own_cache, "owner/name")
    own_cache.joinpath("main").write_text(COMMIT)
    with pytest.raises(SourceUnavailable, match="the cache does not hold it"):
        locate("owner/name", revision=revision, source="cache")


def test_a_revision_passes_over_the_catalogue() -> None:
    """The catalogue holds one state of each model, so that a named revision is not found there."""
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        locate(KNOWN, revision="main")
    with pytest.raises(SourceUnavailable, match="no revisions"):
        locate(KNOWN, revision="main", source="catalogue")


@pytest.mark.parametrize("damage", ["link", "reference"])
def test_half_a_cache_entry_counts_as_none(own_cache: Path, damage: str) -> None:
    """A snapshot whose blob is gone, or a reference that is no commit, is passed over."""
    folder = write_cached(own_cache, KNOWN)
    if damage == "link":
        folder.joinpath("config.json").unlink()
        folder.joinpath("config.json").symlink_to("../../blobs/gone")
    else:
        folder.parents[1].joinpath("refs", "main").write_bytes(b"\xff\xfe")
    assert locate(KNOWN).kind is SourceKind.CATALOGUE


def test_a_damaged_cached_config_names_the_file_to_delete(own_cache: Path) -> None:
    """A cached file that is no JSON is neither used nor silently passed over."""
    path = write_cached(own_cache, KNOWN) / "config.json"
    path.write_text('{"model_type": "lla')
    with pytest.raises(BadConfig, match="delete the file") as caught:
        locate(KNOWN)
    assert str(path) in str(caught.value)


def test_the_catalogue_is_searched_whatever_the_case() -> None:
    """An id in the wrong case finds the model, and the answer tells its right spelling."""
    found = locate(KNOWN.upper())
    assert (found.kind, found.detail, found.repository) == (SourceKind.CATALOGUE, KNOWN, KNOWN)


def test_an_unknown_id_offers_ids_that_look_like_it() -> None:
    """A mistyped id is answered with close ids and the way out, network or not."""
    with pytest.raises(HubError) as caught:
        locate("meta-llama/Llama-3.1-8C")
    assert KNOWN in caught.value.near
    assert "close names" in str(caught.value)
    assert "HF_HUB_OFFLINE" in str(caught.value)


@pytest.mark.parametrize("text", ["", "owner/na me", "-x", "a--b", "x" * 97, "naïve/model", "a..b"])
def test_what_is_neither_path_nor_id_is_said_to_be_so(text: str) -> None:
    """Text that the hub could never have as an id is not asked for there."""
    with pytest.raises(ModelNotFound, match="neither a path that exists nor a hub id"):
        locate(text)


@pytest.mark.parametrize("source", ["folder", "config"])
def test_a_forced_local_source_asks_nowhere_else(source: str) -> None:
    """``--source folder`` with a model of the catalogue is an error."""
    with pytest.raises(ModelNotFound, match="no such file or folder"):
        locate(KNOWN, source=source)


def test_a_forced_source_must_fit_what_the_path_is(tmp_path: Path) -> None:
    """A file is no folder, and a folder is no config file."""
    folder = write_config(tmp_path / "model")
    assert locate(str(folder), source="folder").kind is SourceKind.FOLDER
    with pytest.raises(SourceUnavailable, match="it is a folder"):
        locate(str(folder), source="config")
    with pytest.raises(SourceUnavailable, match="it is no folder"):
        locate(str(folder / "config.json"), source="folder")


def test_a_forced_catalogue_offers_close_ids() -> None:
    """What the catalogue lacks is answered with what it has."""
    with pytest.raises(SourceUnavailable, match="the catalogue does not hold it; close names") as caught:
        locate("meta-llama/Llama-3.1-8C", source="catalogue")
    assert KNOWN in caught.value.near


@pytest.mark.parametrize(("source", "words"), [("disk", "sources are folder, config"), ("module", "itself")])
def test_an_impossible_source_is_refused(source: str, words: str) -> None:
    """A misspelt source lists the right ones; a live module cannot be named."""
    with pytest.raises(SourceUnavailable, match=words):
        locate(KNOWN, source=source)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({}, "the folder has no config.json; give a folder that holds one"),
        ({"adapter_config.json": '{"base_model_name_or_path": "o/base"}'}, "scan its base model o/base"),
        ({"adapter_config.json": "{"}, "scan its base model"),
        ({"model_index.json": "{}"}, "pipeline of models"),
        ({"pytorch_model.bin": ""}, "convert them to safetensors"),
        ({"text/config.json": "{}"}, "sub-folders: text"),
    ],
)
def test_a_folder_without_config_says_what_it_is_instead(
    tmp_path: Path, names: dict[str, str], words: str
) -> None:
    """An adapter, a pipeline, pickled weights or a parent folder each get their own advice."""
    for name, text in names.items():
        tmp_path.joinpath(name).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(name).write_text(text)
    with pytest.raises(ModelNotFound) as caught:
        locate(tmp_path)
    assert words in str(caught.value)


def test_a_folder_of_weights_alone_can_be_read_from_their_headers(tmp_path: Path) -> None:
    """Safetensors files without a config are located, with a note."""
    tmp_path.joinpath("model.safetensors").write_bytes(b"")
    found = locate(tmp_path)
    assert found.config is None
    assert [note.code for note in found.notes] == ["no-config"]


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl"])
def test_a_pickle_is_not_opened(tmp_path: Path, suffix: str) -> None:
    """A file that may be a pickle is refused by its name, without a look into it."""
    path = tmp_path / f"weights{suffix}"
    path.symlink_to(tmp_path / "nowhere")  # opening it would be another error
    with pytest.raises(ModelNotFound, match="pickle, which can run code"):
        locate(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_a_file_of_weights_is_not_read_as_a_config(tmp_path: Path, suffix: str) -> None:
    """A weights file gets advice, not a complaint about JSON."""
    tmp_path.joinpath(f"model{suffix}").write_bytes(b"\0" * 16)
    with pytest.raises(ModelNotFound, match="holds weights"):
        locate(tmp_path / f"model{suffix}")


def test_locating_loads_no_heavy_library(tmp_path: Path) -> None:
    """A folder, a cached and a catalogued model are found without torch, transformers or the hub's client."""
    write_cached(tmp_path / "hub", "owner/cached")
    write_config(tmp_path / "model")
    code = (
        "import sys; from lora_probe.source import locate\n"
        "found = [locate(name).kind.value for name in sys.argv[1:]]\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'numpy', 'pandas'} & set(sys.modules)\n"
        "print(found, sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model"), "owner/cached", KNOWN],
        env={**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['folder', 'cache', 'catalogue'] []"


def test_names_are_escaped_in_every_sentence(tmp_path: Path) -> None:
    """A path or id with control characters reaches the terminal as an escape."""
    path = tmp_path / "\x1b[31mred"
    for model in (path, "\x1b[31mred", "a\0b"):
        with pytest.raises(LoraProbeError) as caught:
            locate(model)
        assert "\x1b" not in str(caught.value)
        assert "\0" not in str(caught.value)
