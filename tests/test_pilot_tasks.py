"""Pilots of every task, as a user runs them: data in a file, a tiny model in a folder, one command."""

from __future__ import annotations

import csv
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from lora_probe.cli import run
from lora_probe.piloting.log import read_history
from lora_probe.piloting.options import read_options
from lora_probe.piloting.preparation import prepare
from lora_probe.piloting.records import Evaluated, Split
from tests.pilot_runs import WORDS, make_data, make_model

if TYPE_CHECKING:
    from pathlib import Path

QUICK = (
    *("-c", "attention", "-c", "mlp", "-r", "2", "--steps", "8", "--batch-size", "4", "--max-length", "16"),
    *("--learning-rate", "0.01", "--rungs", "none", "--seeds", "2", "--grid", "1", "--extensions", "0"),
    *("--no-rerun", "--evaluations", "1", "--tuning-items", "8", "--test-items", "24", "--resamples", "100"),
    *("--device", "cpu", "--quiet", "--json"),
)
CLASSES = (
    "--task",
    "sequence-classification",
    "--steps",
    "20",
    "--batch-size",
    "8",
    "--learning-rate",
    "0.02",
)
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT reads it


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models and with data of every task, which are all easy to learn."""
    folder = tmp_path_factory.mktemp("tasks")
    make_model(folder / "bert", "Bert", "ForMaskedLM")
    make_model(folder / "llama")
    make_model(folder / "t5", "T5", "ForConditionalGeneration", **T5)
    make_model(folder / "mamba", "Mamba", "ForCausalLM", state_size=4)
    make_data(folder / "text.jsonl", rows=120)
    draw = random.Random(0)  # noqa: S311 - no secret
    rows = [draw.choices(WORDS, k=draw.randint(4, 10)) for _ in range(150)]
    with (folder / "classes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label"])
        # The first word, and the last, say which: encoders look there, and decoders here.
        writer.writerows((" ".join([*row, row[0]]), "early" if row[0] < "m" else "late") for row in rows)
    _write(folder / "tags.jsonl", ({"tokens": row, "ner_tags": [_tag(word) for word in row]} for row in rows))
    _write(folder / "pairs.jsonl", ({"source": " ".join(row), "target": row[0]} for row in rows))
    return folder


def _write(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _tag(word: str) -> str:
    return "ANIMAL" if word in {"cat", "dog"} else "O"


def _piloted(place: Path, out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run a pilot in `out` by its command line; return what it prints."""
    model, data, *more = words
    command = ["pilot", str(place / model), "--data", str(place / data), "--out", str(out), *QUICK, *more]
    status = run(command)
    output, errors = capsys.readouterr()
    assert status == 0, errors
    document: dict[str, Any] = json.loads(output)
    assert document["complete"]
    assert not document["failures"]
    return document


def _rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["candidate"]: row for row in document["leaderboard"]}


@pytest.mark.parametrize(
    "words",
    [
        ("bert", "text.jsonl"),
        ("t5", "pairs.jsonl", "--accuracy"),
        ("llama", "text.jsonl", "--accuracy", "--packing"),
        ("bert", "tags.jsonl", "--task", "token-classification", "--full"),
        ("bert", "classes.csv", *CLASSES),
        ("llama", "classes.csv", *CLASSES, "--no-accuracy"),
    ],
)
def test_every_task_runs(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """All arms beat the base; right predictions are counted of classes, and where they are asked for."""
    document = _piloted(place, tmp_path / "out", capsys, *words)
    rows = _rows(document)
    for name in ("attention", "mlp"):
        assert rows[name]["test_loss"] < rows["base"]["test_loss"]
        assert rows[name]["seeds"] == [0, 1]
    classes = "classification" in document["plan"]["data"]["task"]
    counted = (classes or "--accuracy" in words) and "--no-accuracy" not in words
    assert document["plan"]["protocol"]["accuracy"] is counted
    for row in rows.values():
        assert (row["accuracy"] is not None) is counted
        assert not counted or 0 <= row["accuracy"] <= 1
    assert ("<th>accuracy</th>" in (tmp_path / "out" / "report.html").read_text()) is counted


def test_a_new_head_is_the_same_in_every_arm(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A head that the checkpoint lacks is trained, counted and saved in each arm, and starts alike."""
    out = tmp_path / "out"
    words = ("bert", "classes.csv", *CLASSES, "--learning-rate", "0.01", "--save-adapters", "--steps", "1")
    document = _piloted(place, out, capsys, *words)
    sets = [each for each in document["plan"]["candidates"] if each["arm"] == "lora"]
    head = 16 * 16 + 16 + 16 * 2 + 2
    for each in sets:
        assert sorted(each["lora"]["modules_to_save"]) == ["bert.pooler.dense", "classifier"]
    heads = []
    for folder in sorted((out / "adapters").iterdir()):
        tensors = load_file(folder / "adapter_model.safetensors")
        saved = {name: each for name, each in tensors.items() if "lora_" not in name}
        assert sum(each.numel() for each in saved.values()) == head
        candidate = sets[int(folder.name.split("-")[0]) - 1]
        assert sum(each.numel() for each in tensors.values()) == candidate["trainable_parameters"]
        heads.append(torch.cat([saved[name].flatten() for name in sorted(saved)]))
    assert len(heads) == 4
    for each in heads:  # one step of AdamW from the same start moves no weight by more than its rate
        assert (each - heads[0]).abs().max() <= 2 * 0.01 * 1.01
        assert each.std() > 0.01


def test_a_saved_classifier_predicts_what_was_measured(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PEFT loads adapter and head; their accuracy on the test part is that of the report."""
    from transformers import AutoTokenizer

    from lora_probe.piloting.data import DataOptions, evaluation_batches, load_data
    from lora_probe.piloting.records import Task

    out = tmp_path / "out"
    words = ("bert", "classes.csv", *CLASSES, "--save-adapters")
    _piloted(place, out, capsys, *words)
    data = load_data(
        str(place / "classes.csv"),
        task=Task.SEQUENCE_CLASSIFICATION,
        tokenizer=AutoTokenizer.from_pretrained(place / "bert"),
        max_length=16,
        options=DataOptions(tuning_items=8, test_items=24),
    )
    base = AutoModelForSequenceClassification.from_pretrained(place / "bert", num_labels=2)
    (folder,) = (out / "adapters").glob("*-mlp-*seed1")
    model: Any = PeftModel.from_pretrained(base, folder).eval()
    right = [0] * len(data.test)
    with torch.no_grad():
        for batch in evaluation_batches(data, Split.TEST, batch_size=8):
            hits = model(**batch.inputs).logits.argmax(-1) == batch.labels
            for item, hit in zip(batch.items, hits.tolist(), strict=True):
                right[item] = int(hit)
    (measured,) = (
        each
        for each in read_history(out).results()
        if isinstance(each, Evaluated)
        and (each.trial.candidate, each.trial.seed, each.split) == ("mlp", 1, Split.TEST)
    )
    assert measured.correct == tuple(right)
    assert sum(right) > 0.8 * len(right)


def test_both_engines_count_the_same(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Token accuracy of stacked trials is that of the same ones trained through PEFT."""
    found = [
        _rows(
            _piloted(
                place, tmp_path / engine, capsys, "llama", "text.jsonl", "--accuracy", "--engine", engine
            )
        )
        for engine in ("stacked", "reference")
    ]
    for name in ("base", "attention", "mlp"):
        assert found[0][name]["accuracy"] == pytest.approx(found[1][name]["accuracy"], abs=1e-9)
    assert found[0]["mlp"]["accuracy"] > 0


def test_packing_is_refused_where_examples_would_meet(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state-space model carries its state from one packed example to the next: one sentence."""
    out = tmp_path / "out"
    words = ["--data", str(place / "text.jsonl"), "--out", str(out), *QUICK[4:], "-c", "all-linear"]
    assert run(["pilot", str(place / "mamba"), *words, "--packing"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "in MambaForCausalLM an example would see those that are packed before it" in message
    assert "--packing" in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("known", "kept"),
    [
        (("late", "early"), True),
        (("late", "never", "early"), True),
        (("good", "bad", "ugly"), False),
    ],
)
def test_a_trained_head_keeps_its_classes(
    place: Path, tmp_path: Path, known: tuple[str, ...], *, kept: bool
) -> None:
    """Labels get the numbers that a classifier's head has for them; a head of other classes gives way."""
    model = make_model(
        tmp_path / "model", "Bert", "ForSequenceClassification", num_labels=len(known),
        id2label=dict(enumerate(known)), label2id={name: number for number, name in enumerate(known)},
    )  # fmt: skip
    settings = read_options({"tuning_items": 8, "test_items": 8, "device": "cpu", "max_length": 16})
    said: list[str] = []
    prepared = prepare(model, str(place / "classes.csv"), ["mlp"], settings, tell=said.append)
    assert prepared.data.label_names == (known if kept else ("early", "late"))
    assert {example.labels[0] for example in prepared.data.train} == ({0, len(known) - 1} if kept else {0, 1})
    assert prepared.base.new_modules == (() if kept else ("classifier",))
    note = "new, and trained in full from the same start in every arm: classifier"
    assert (note in prepared.notes) is not kept
    head = load_file(model / "model.safetensors")["classifier.weight"]
    weights = dict(prepared.base.model.named_parameters())
    assert torch.equal(weights["classifier.weight"], head) is kept
