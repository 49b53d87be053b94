"""Broken input of every sort ends in a result or in one sentence: no other exception, and no hang."""

from __future__ import annotations

import time
from math import prod
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_probe.errors import BadCheckpoint, LoraProbeError
from lora_probe.scanner import scan
from lora_probe.source import Located, SourceKind, locate
from lora_probe.source.tensors import INDEX, SINGLE, checkpoint_tensors
from lora_probe.text import printable
from tests.checkpoints import entry, header_bytes, index_bytes, safetensors_bytes
from tests.mutations import as_json, broken_bytes, broken_configs, broken_documents

if TYPE_CHECKING:
    from pathlib import Path

MAX_SECONDS = 30
WHOLE = safetensors_bytes({"a.weight": [3, 4], "b": [5], "empty": [0, 2], "scalar": []})
DOCUMENT: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a": entry("F32", [2, 3], 0, 24),
    "b": entry("BF16", [4], 24, 32),
    "c": entry("F4", [3, 2], 32, 35),
    "d": entry("U8", [0], 35, 35),
}
SHARDS = {f"{name}.safetensors": safetensors_bytes({name: [2]}) for name in "xy"}
INDEXED = {"metadata": {"total_size": 8}, "weight_map": {"x": "x.safetensors", "y": "y.safetensors"}}
CONFIG = b'{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 99}'

shared_folder = [HealthCheck.function_scoped_fixture]  # each example writes the file anew
short = settings(
    max_examples=40, derandomize=True, suppress_health_check=[*shared_folder, HealthCheck.too_slow]
)
long = settings(max_examples=600, suppress_health_check=[*shared_folder, HealthCheck.too_slow])
many = settings(max_examples=300, derandomize=True, suppress_health_check=shared_folder)
most = settings(max_examples=10_000, suppress_health_check=shared_folder)


def require_sentence(error: LoraProbeError) -> None:
    """Check that a message is one line of which a terminal obeys nothing."""
    assert str(error) == printable(str(error))
    assert 10 < len(str(error)) < 2000


def require_end(folder: Path, content: bytes) -> None:
    """Scan a config file; a result adds up, anything else is one printable sentence, in time."""
    path = folder / "config.json"
    path.write_bytes(content)
    began = time.process_time()
    try:
        graph = scan(path, cache=False)
    except LoraProbeError as error:
        require_sentence(error)
    else:
        covered = sum(site.parameters for site in graph.sites)
        assert covered + graph.uncovered_parameters == graph.total_parameters > 0
    assert time.process_time() - began < MAX_SECONDS


def require_tensors(folder: Path, content: bytes) -> None:
    """Read a file's header; tensors that are accepted fill the file exactly."""
    located = Located(model="m", kind=SourceKind.FOLDER, detail="m", config=None, folder=folder)
    folder.joinpath(SINGLE).write_bytes(content)
    try:
        tensors = checkpoint_tensors(located)
    except BadCheckpoint as error:
        require_sentence(error)
    else:
        bits = {"F32": 32, "BF16": 16, "F4": 4}
        data = sum(-(-bits.get(info.dtype, 8) * prod(info.shape) // 8) for info in tensors)
        wide = {"F16", "I16", "U16", "I32", "U32", "I64", "U64", "F64", "C64", "F6_E2M3", "F6_E3M2"}
        if not wide & {info.dtype for info in tensors}:
            assert 8 + int.from_bytes(content[:8], "little") + data == len(content)


def require_index(folder: Path, content: bytes) -> None:
    """Read a sharded checkpoint; what is accepted are the tensors of the two shards."""
    located = Located(model="m", kind=SourceKind.FOLDER, detail="m", config=None, folder=folder)
    for name, shard in SHARDS.items():
        folder.joinpath(name).write_bytes(shard)
    folder.joinpath(INDEX).write_bytes(content)
    try:
        tensors = checkpoint_tensors(located)
    except LoraProbeError as error:
        require_sentence(error)
    else:
        assert {info.name for info in tensors} <= {"x", "y"}


@short
@given(config=broken_configs())
def test_a_broken_config_ends(config: dict[str, Any], tmp_path: Path) -> None:
    """A published config with things changed is scanned or refused."""
    require_end(tmp_path, as_json(config))


@pytest.mark.fuzz
@long
@given(config=broken_configs())
def test_broken_configs_end(config: dict[str, Any], tmp_path: Path) -> None:
    """The same for some minutes, with other changes each time."""
    require_end(tmp_path, as_json(config))


@many
@given(content=broken_bytes(CONFIG))
def test_a_broken_config_file_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    """Bytes that were a config once are an object or one sentence."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    try:
        assert isinstance(locate(path).config, dict)
    except LoraProbeError as error:
        require_sentence(error)


@many
@given(
    content=st.one_of(
        broken_bytes(WHOLE), broken_documents(DOCUMENT).map(lambda it: header_bytes(it, data=35))
    )
)
def test_a_broken_header_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    """A header with bytes or entries changed never gives tensors that the file cannot hold."""
    require_tensors(tmp_path, content)


@pytest.mark.fuzz
@most
@given(
    content=st.one_of(
        broken_bytes(WHOLE), broken_documents(DOCUMENT).map(lambda it: header_bytes(it, data=35))
    )
)
def test_broken_headers_are_read_or_refused(content: bytes, tmp_path: Path) -> None:
    """The same for some minutes, with other changes each time."""
    require_tensors(tmp_path, content)


@many
@given(
    content=st.one_of(
        broken_bytes(index_bytes(INDEXED["weight_map"])), broken_documents(INDEXED).map(as_json)
    )
)
def test_a_broken_index_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    """An index with bytes or entries changed never leads out of its folder."""
    require_index(tmp_path, content)
