"""Names and shapes from safetensors headers: right ones are read, lying ones are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from lora_probe.errors import BadCheckpoint, CheckpointNotFound, UnreadableFile
from lora_probe.source import Located, SourceKind
from lora_probe.source.tensors import INDEX, SINGLE, TensorInfo, checkpoint_tensors
from tests.checkpoints import entry, header_bytes, index_bytes, safetensors_bytes

A = entry("F32", [2, 3], 0, 24)
B = entry("I8", [6], 24, 30)


def in_folder(folder: Path, **files: bytes) -> Located:
    """Write files into `folder`, and return the model that is there."""
    for name, content in files.items():
        folder.joinpath(name).write_bytes(content)
    return Located(model="m", kind=SourceKind.FOLDER, detail=str(folder), config=None, folder=folder)


def test_a_single_file_gives_its_tensors_in_order(tmp_path: Path) -> None:
    """Names, element types and shapes come out as the header has them, metadata left out."""
    document = {"__metadata__": {"format": "pt"}, "b": B, "a": A}
    located = in_folder(tmp_path, **{SINGLE: header_bytes(document, data=30)})
    assert checkpoint_tensors(located) == (
        TensorInfo(name="b", dtype="I8", shape=(6,)),
        TensorInfo(name="a", dtype="F32", shape=(2, 3)),
    )


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    """A file saved by the library itself gives the shapes that were saved."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {
        "scalar": torch.zeros(()),
        "empty": torch.zeros(0, 4),
        "half": torch.zeros(3, 5, dtype=torch.bfloat16),
        "packed": torch.zeros(7, dtype=torch.uint8),
        "eight": torch.zeros(2, 2, dtype=torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / SINGLE)
    found = checkpoint_tensors(in_folder(tmp_path))
    assert {info.name: info.shape for info in found} == {name: tuple(t.shape) for name, t in tensors.items()}


def test_shards_are_joined_through_their_index(tmp_path: Path) -> None:
    """The files that the index names are read, and others beside them are not."""
    located = in_folder(
        tmp_path,
        **{
            INDEX: index_bytes({"x": "one.safetensors", "y": "two.safetensors"}),
            "one.safetensors": safetensors_bytes({"x": [2]}),
            "two.safetensors": safetensors_bytes({"y": [3]}),
            "consolidated.safetensors": b"not looked at",
        },
    )
    assert [info.name for info in checkpoint_tensors(located)] == ["x", "y"]


def test_a_single_file_comes_before_an_index(tmp_path: Path) -> None:
    """Of two checkpoints in one folder, the one that transformers loads is read."""
    located = in_folder(
        tmp_path,
        **{
            SINGLE: safetensors_bytes({"w": [2]}),
            INDEX: index_bytes({"old": "one.safetensors"}),
            "one.safetensors": safetensors_bytes({"old": [2]}),
        },
    )
    assert [info.name for info in checkpoint_tensors(located)] == ["w"]


def test_without_an_index_every_file_of_weights_counts(tmp_path: Path) -> None:
    """A checkpoint under another name is read, an adapter or an optimizer beside it is not."""
    located = in_folder(
        tmp_path,
        **{
            "weights-1.safetensors": safetensors_bytes({"x": [2]}),
            "weights-2.safetensors": safetensors_bytes({"y": [3]}),
            "adapter_model.safetensors": b"not looked at",
        },
    )
    assert [info.name for info in checkpoint_tensors(located)] == ["x", "y"]


HEADERS: dict[str, tuple[Any, int, str]] = {
    "no object": ([], 0, "no JSON object"),
    "no JSON": (b"{", 0, "no valid JSON"),
    "no text": (b'{"\xff": 1}', 0, "no valid JSON"),
    "deep": (b'{"a":' * 100_000, 0, "nested too deeply"),
    "twice": (b'{"a": 1, "a": 2}', 0, "a name occurs twice"),
    "no entry": ({"a": 3}, 0, "tensor 'a' has not the fields"),
    "field missing": ({"a": {"dtype": "F32", "shape": [1]}}, 4, "not the fields"),
    "field more": ({"a": {**A, "extra": 1}}, 24, "not the fields"),
    "dtype": ({"a": entry("F33", [1], 0, 4)}, 4, "an unknown dtype 'F33'"),
    "dtype no text": ({"a": {**A, "dtype": ["F32"]}}, 24, "an unknown dtype"),
    "shape negative": ({"a": entry("F32", [-2, -3], 0, 24)}, 24, "no list of sizes"),
    "shape float": ({"a": {**A, "shape": [6.0]}}, 24, "no list of sizes"),
    "shape bool": ({"a": {**A, "shape": [True, 6]}}, 24, "no list of sizes"),
    "shape beyond 64 bits": ({"a": {**A, "shape": [2**64]}}, 24, "no list of sizes"),
    "shape of many": ({"a": {**A, "shape": [1] * 99}}, 24, "no list of sizes"),
    "offsets negative": ({"a": entry("F32", [2, 3], -24, 0)}, 24, "no pair of sizes"),
    "offsets backwards": ({"a": entry("F32", [2, 3], 24, 0)}, 24, "-24 bytes of data, its shape needs 24"),
    "offsets three": ({"a": {**A, "data_offsets": [0, 24, 25]}}, 25, "no pair of sizes"),
    "size": ({"a": entry("F32", [2, 3], 0, 23)}, 23, "23 bytes of data, its shape needs 24"),
    "overlap": ({"a": A, "b": entry("I8", [6], 20, 26)}, 26, "tensor 'b' overlaps"),
    "hole": ({"a": A, "b": entry("I8", [6], 25, 31)}, 31, "a hole in the data before tensor 'b'"),
    "beyond the end": ({"a": A}, 23, "need 24 bytes of data, it has 23"),
    "before the end": ({"a": A}, 25, "need 24 bytes of data, it has 25"),
}


@pytest.mark.parametrize(("document", "data", "words"), HEADERS.values(), ids=HEADERS.keys())
def test_a_lying_header_is_refused(tmp_path: Path, document: Any, data: int, words: str) -> None:
    """Whatever is wrong with a header is said in one line that names the file."""
    located = in_folder(tmp_path, **{SINGLE: header_bytes(document, data=data)})
    with pytest.raises(BadCheckpoint) as caught:
        checkpoint_tensors(located)
    assert words in str(caught.value)
    assert str(tmp_path / SINGLE) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "only 0 bytes"),
        (b"\x02\0\0", "only 3 bytes"),
        ((2**63).to_bytes(8, "little"), "its header would have 9,223,372,036,854,775,808 bytes"),
        ((26_000_000).to_bytes(8, "little") + b"{}", "its header would have 26,000,000 bytes"),
        ((10_000).to_bytes(8, "little") + b"{}", "cut off: 10 bytes, the header alone needs 10,008"),
        (pickle.dumps({"a": list(range(99))}), "no safetensors file"),
    ],
)
def test_a_file_of_the_wrong_length_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """A header longer than the file or than any real one is never read."""
    with pytest.raises(BadCheckpoint, match=words):
        checkpoint_tensors(in_folder(tmp_path, **{SINGLE: content}))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (b"{", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"[]", "no weight_map"),
        (b'{"weight_map": {}}', "no weight_map"),
        (index_bytes({"x": "../secret.safetensors"}), "no file of its own folder"),
        (index_bytes({"x": "/etc/passwd"}), "no file of its own folder"),
        (index_bytes({"x": "a\\b"}), "no file of its own folder"),
        (index_bytes({"x": ".."}), "no file of its own folder"),
        (index_bytes({"x": ""}), "no file of its own folder"),
        (index_bytes({"x": 3}), "no file of its own folder"),
        (index_bytes({str(n): str(n) for n in range(10_001)}), "more than 10,000 files"),
        (index_bytes({"x": "one.safetensors", "gone": "one.safetensors"}), "holds tensor 'gone', which it"),
        (index_bytes({"x": "two.safetensors", "y": "one.safetensors"}), "which it does not"),
    ],
)
def test_a_lying_index_is_refused(tmp_path: Path, index: bytes, words: str) -> None:
    """An index may name only files of its own folder that hold what it says."""
    files = {INDEX: index, "one.safetensors": safetensors_bytes({"x": [2]})}
    files["two.safetensors"] = safetensors_bytes({"y": [2]})
    with pytest.raises(BadCheckpoint) as caught:
        checkpoint_tensors(in_folder(tmp_path, **files))
    assert words in str(caught.value)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    """Without an index nothing says which of two tensors of one name counts."""
    files = dict.fromkeys(["a.safetensors", "b.safetensors"], safetensors_bytes({"x": [2]}))
    with pytest.raises(BadCheckpoint, match=r"'x' is in a\.safetensors and in b\.safetensors"):
        checkpoint_tensors(in_folder(tmp_path, **files))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """A folder that lacks a file of its index cannot be read, and says which file."""
    with pytest.raises(UnreadableFile, match=r"gone\.safetensors: No such file"):
        checkpoint_tensors(in_folder(tmp_path, **{INDEX: index_bytes({"x": "gone.safetensors"})}))


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    """A folder with only a pickle gets advice; the pickle, which would leave a trace, is not loaded."""
    trace = tmp_path / "trace"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    located = in_folder(tmp_path, **{"pytorch_model.bin": pickle.dumps(Bomb())})
    with pytest.raises(CheckpointNotFound, match="never opened: convert them to safetensors"):
        checkpoint_tensors(located)
    assert not trace.exists()


def test_a_model_without_weights_says_so() -> None:
    """A config of the catalogue or a lone file has no checkpoint of its own."""
    located = Located(model="m", kind=SourceKind.CONFIG, detail="c.json", config=json.loads("{}"))
    with pytest.raises(CheckpointNotFound, match="give a folder"):
        checkpoint_tensors(located)
