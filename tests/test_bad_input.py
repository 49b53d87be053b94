"""Bad input on the command line: one clear sentence, exit code 2, in bounded time and memory."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.cli import run
from tests.checkpoints import header_bytes, index_bytes, safetensors_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_SECONDS = 30
MAX_BYTES = 2 * 2**30
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
}
UNKNOWN = b'{"model_type": "unheard-of"}'


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forbid the network, and start without anything cached."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LORA_PROBE_CACHE", str(tmp_path / "cache"))


def refused(argument: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Scan in this process, and return the one sentence that it must end with."""
    began = time.process_time()
    code = run(["scan", argument, "--json"])
    output, errors = capsys.readouterr()
    assert (code, output) == (2, "")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert errors[:-1].isprintable()
    assert time.process_time() - began < MAX_SECONDS
    return errors


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("meta-llama/Llama-3.1-8C", "close names: meta-llama/Llama-3.1-8B"),
        ("lama", "HF_HUB_OFFLINE"),
        ("./nowhere", "no such file or folder"),
        ("/dev/null", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("/proc/self/mem", "cannot read /proc/self/mem"),
        ("a b", "neither a path that exists nor a hub id"),
        ("\x1b[2J\x1b[31mowner/name", r"\x1b[2J\x1b[31mowner/name"),
        ("\u202eowner", r"\u202eowner"),
        ("x" * 5000, "neither a path that exists nor a hub id"),
    ],
)
def test_a_name_that_leads_nowhere(argument: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown ids get near misses, impossible paths the reason; control characters are escaped."""
    assert words in refused(argument, capsys)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 2**20)


CONTENTS: dict[str, tuple[bytes | Callable[[Path], object], str]] = {
    "empty": (b"", "it is empty"),
    "broken JSON": (b'{"model_type": "llama",', "no valid JSON"),
    "binary": (bytes(range(256)), "a binary file"),
    "array": (b"[{}]", "a JSON array"),
    "deep": (b'{"a":' * 50_000, "nested more than 32 levels"),
    "deep and closed": (b'{"a":' * 900 + b"1" + b"}" * 900, "nested more than 32 levels"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "pickle": (pickle.dumps({"model_type": "llama"}), "a binary file"),
    "hundred megabytes": (_huge, "longer than 8 MiB"),
    "FIFO": (os.mkfifo, "not a regular file"),
    "folder": (os.mkdir, "cannot read"),
    "link to itself": (_loop, "symbolic links"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("as_folder", [True, False])
def test_something_else_in_place_of_a_config(
    name: str, as_folder: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever lies at config.json is named for what it is, by folder and by file."""
    content, words = CONTENTS[name]
    path = tmp_path / "model" / "config.json"
    path.parent.mkdir()
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    if name == "folder" and not as_folder:
        words = "no config.json"
    assert words in refused(str(path.parent if as_folder else path), capsys)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "negative": ({"hidden_size": -64}, "hidden_size must not be negative, got -64"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is beyond any published model"),
    "absurd width": ({"hidden_size": 10**30}, "hidden_size is beyond any published model"),
    "text": ({"hidden_size": "64"}, "hidden_size must be a whole number, got '64'"),
    "fraction": ({"vocab_size": 0.5}, "vocab_size must be a whole number, got 0.5"),
    "NaN": ({"hidden_size": float("nan")}, "hidden_size must be a whole number, got nan"),
    "infinity": ({"hidden_size": float("inf")}, "hidden_size must be a whole number, got inf"),
    "object": ({"hidden_size": {}}, "hidden_size"),
    "nobody": ({"num_attention_heads": 0}, "LlamaForCausalLM cannot be built"),
    "unknown type": ({"model_type": "unheard-of", "architectures": None}, "no model type 'unheard-of'"),
    "a model of models": (
        {"model_type": "mamba", "architectures": None, "expand": 10**12},
        "building MambaForCausalLM takes 3.26e+16 parameters",
    ),
    "hostile type": ({"model_type": "\x1b[2J", "architectures": None}, r"no model type '\x1b[2J'"),
    "no type": ({"model_type": None, "architectures": None}, "neither model_type nor architectures"),
    "type of wrong type": ({"model_type": ["llama"]}, "model_type must be a string"),
    "wrong kind of class": ({"architectures": [3]}, "architectures must be a list of class names"),
    "own code": (
        {"model_type": "x", "auto_map": {"AutoModel": "m.M"}, "architectures": None},
        "--trust-remote-code",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_no_model_has(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence names the field and what is wrong with it."""
    changes, words = CONFIGS[name]
    tmp_path.joinpath("config.json").write_text(json.dumps({**LLAMA, **changes}))
    assert words in refused(str(tmp_path), capsys)


HUGE: dict[str, dict[str, Any]] = {
    "a billion labels": {"num_labels": 10**9, "architectures": ["LlamaForTokenClassification"]},
    "a million modules": {
        "model_type": "switch_transformers", "num_experts": 90_000, "num_layers": 24, "num_heads": 2,
        "architectures": ["SwitchTransformersForConditionalGeneration"],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_a_config_that_explodes_is_bounded(name: str, tmp_path: Path) -> None:
    """What no single field gives away is stopped while it is built, within the time and memory promised."""
    tmp_path.joinpath("config.json").write_text(json.dumps({**LLAMA, **HUGE[name]}))
    program = "import sys; from lora_probe.cli import main; main()"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, "scan", str(tmp_path), "--json", "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "takes more than" in done.stderr
    assert done.stderr.count("\n") == 1
    # The processor's time: the clock on the wall also counts what other processes do.
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < MAX_SECONDS
    assert used.ru_maxrss * 1024 < MAX_BYTES


CHECKPOINTS: dict[str, tuple[dict[str, bytes], str]] = {
    "a huge header": ({"model.safetensors": b"\xff" * 64}, "its header would have"),
    "a cut header": ({"model.safetensors": safetensors_bytes({"x": [2]})[:20]}, "it is cut off"),
    "overlapping tensors": (
        {"model.safetensors": header_bytes({
            "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
            "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
        }, data=6)},
        "tensor 'b' overlaps",
    ),
    "control characters": (
        {"model.safetensors": header_bytes({"\x1b[2J": {"dtype": "U8", "shape": [4]}})},
        r"tensor '\x1b[2J' has not the fields",
    ),
    "an index that leads out": (
        {"model.safetensors.index.json": index_bytes({"x": "../../etc/passwd"})}, "no file of its own folder",
    ),
    "a missing shard": (
        {"model.safetensors.index.json": index_bytes({"x": "gone.safetensors"})},
        "gone.safetensors: No such file",
    ),
    "only a pickle": ({"pytorch_model.bin": pickle.dumps({})}, "unheard-of"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_lies(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A type that must be read from headers, whose headers cannot be trusted."""
    files, words = CHECKPOINTS[name]
    for file, content in {"config.json": UNKNOWN, **files}.items():
        tmp_path.joinpath(file).write_bytes(content)
    assert words in refused(str(tmp_path), capsys)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights.ckpt", "weights.pkl"])
def test_a_pickle(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle is not opened, whatever it may hold."""
    tmp_path.joinpath(name).write_bytes(pickle.dumps({}))
    assert "pickle, which can run code and is never opened" in refused(str(tmp_path / name), capsys)
    assert "never opened" in refused(str(tmp_path), capsys)


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a model says what was looked for."""
    assert "the folder has no config.json" in refused(str(tmp_path), capsys)


def test_a_file_that_may_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unreadable config is reported in the system's words; the superuser may read everything."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()
        path.symlink_to("/proc/self/mem")  # readable to nobody at its start
    assert "cannot read" in refused(str(tmp_path), capsys)
