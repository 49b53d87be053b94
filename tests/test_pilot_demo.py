"""The demo's model and data: small, whole, and with something to learn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.piloting.demo import demo_data, model_folder, passages
from lora_probe.piloting.demo.training import CONTEXT, VOCABULARY, source_texts

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 3 * 2**20
"""Bytes that the demo's model may add to an installation."""


def test_the_model_is_small_and_scans() -> None:
    """The shipped folder takes little room, and every preset finds its targets."""
    graph = lora_probe.scan(model_folder(), cache=False)
    assert sum(path.stat().st_size for path in model_folder().iterdir()) < LARGEST
    assert graph.total_parameters == 1_049_728
    sets = {row.targets for row in lora_probe.budget(graph).rows}
    assert {"attention", "mlp", "all-linear"} <= sets


def test_the_model_reads_code_better_than_chance() -> None:
    """The weights and the tokenizer belong together: unseen code costs far less than a blind guess."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    code = "class Reader:\n    def __init__(self, name):\n        self.name = name\n\n    def read(self):\n"
    ids = tokenizer(code, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == code
    assert tokenizer.pad_token_id is not None
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss < 0.6 * torch.log(torch.tensor(VOCABULARY)).item()


def test_the_data_is_written_once(tmp_path: Path) -> None:
    """Asking again gives the same file, untouched, and each line holds one new passage."""
    path = demo_data(tmp_path)
    written = path.stat().st_mtime_ns
    assert demo_data(tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [path]
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(texts) == len(set(texts)) > 1000


def test_the_data_lies_in_the_cache_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder the data goes to the cache, whose place the environment sets."""
    monkeypatch.setenv("LORA_PROBE_CACHE", str(tmp_path))
    assert demo_data().parent == tmp_path / "demo"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\n\ntwo", ["one\n\ntwo"]),
        ("one\n\ntwo\n\none", ["one\n\ntwo"]),
        ("\n\n \n\n", []),
        ("a" * 200 + "\n\n" + "b" * 200, ["a" * 200, "b" * 200]),
        ("a" * 200 + "\n" + "b" * 200, ["a" * 200, "b" * 200]),
    ],
)
def test_paragraphs_become_passages(text: str, expected: list[str]) -> None:
    """Paragraphs are joined while they fit, cut between lines where they do not, and never repeated."""
    assert passages([text]) == expected


def test_the_model_never_saw_the_data(tmp_path: Path) -> None:
    """What the model learns from leaves out the help topics, tests and tables, in the order of the paths."""
    for name in ("b.py", "a.py", "pydoc_data/topics.py", "test/test_a.py", "encodings/cp037.py", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.py").touch()
    assert source_texts(tmp_path) == ["a.py", "b.py"]


def test_training_makes_such_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that made the model still runs: two steps on a few files give a folder that loads."""
    from transformers import AutoConfig, AutoTokenizer

    from lora_probe.piloting.demo import training

    source = tmp_path / "source"
    source.mkdir()
    for name in range(20):
        (source / f"{name}.py").write_text(
            "".join(f"def f{line}(x):\n    return {line}\n" for line in range(200))
        )
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(source))
    training.make_model(tmp_path / "model", steps=2)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) <= VOCABULARY
    assert AutoConfig.from_pretrained(tmp_path / "model").max_position_embeddings == CONTEXT
