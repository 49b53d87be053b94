"""Data of a pilot: split by content, served by step, equal in every process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.piloting.data import (
    DataOptions,
    Example,
    PilotData,
    TrainOn,
    batches,
    evaluation_batches,
    load_data,
)
from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.data.loading import fingerprint
from lora_probe.piloting.data.packing import pack
from lora_probe.piloting.data.splitting import part_of
from lora_probe.piloting.errors import (
    BadDataOption,
    BadExample,
    LongerThanModel,
    NoUsableData,
    TooLittleData,
    UnfitTokenizer,
)
from lora_probe.piloting.records import Split, Task, Training
from tests.pilot_tokenizers import CHATML, byte_tokenizer
from tests.trl_cases import turn

_PARTS = (part.strip() for topic in topics.values() for part in topic.split("\n\n"))
PARAGRAPHS = [*{part[:60]: part for part in _PARTS if part}.values()][:400]
"""Text that every Python ships; no two begin alike."""


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows as JSON Lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def load(path: Path, rows: list[dict[str, Any]], *, tokenizer: Any = None, **told: Any) -> PilotData:
    """Load rows of a causal language model, by way of a file."""
    told = {"task": Task.CAUSAL_LM, "max_length": 64, **told}
    return load_data(write(path / "rows.jsonl", rows), tokenizer=tokenizer or byte_tokenizer(), **told)


def text_rows(texts: list[str]) -> list[dict[str, Any]]:
    """Return one row per text."""
    return [{"text": text} for text in texts]


def keys(data: PilotData) -> dict[Split, set[str]]:
    """Return the keys of each part."""
    return {split: {example.key for example in data.part(split)} for split in Split}


@pytest.fixture(scope="module")
def paragraphs(tmp_path_factory: pytest.TempPathFactory) -> PilotData:
    """Load 400 paragraphs of Python's own documentation."""
    return load(tmp_path_factory.mktemp("data"), text_rows(PARAGRAPHS))


def test_parts_do_not_overlap(paragraphs: PilotData) -> None:
    """Every example is in one part, of about the share that is meant, and no tokens occur in two."""
    facts = paragraphs.facts
    assert facts.train_examples + facts.tuning_examples + facts.test_examples == len(PARAGRAPHS)
    assert 0.14 < facts.test_examples / len(PARAGRAPHS) < 0.26
    assert 0.05 < facts.tuning_examples / len(PARAGRAPHS) < 0.15
    tokens = Counter(bytes(example.input_ids) for split in Split for example in paragraphs.part(split))
    assert set(tokens.values()) == {1}


def test_the_order_of_the_source_does_not_matter(tmp_path: Path, paragraphs: PilotData) -> None:
    """The same rows in another order are the same data, to the fingerprint."""
    shuffled = random.Random(5).sample(PARAGRAPHS, len(PARAGRAPHS))  # noqa: S311
    assert load(tmp_path, text_rows(shuffled)).facts.fingerprint == paragraphs.facts.fingerprint


def test_more_data_moves_nothing(tmp_path: Path, paragraphs: PilotData) -> None:
    """With rows added, every example stays in its part; the fingerprint tells that the data changed."""
    more = load(tmp_path, text_rows([*(f"new {number}" for number in range(100)), *PARAGRAPHS]))
    before, after = keys(paragraphs), keys(more)
    assert all(before[split] <= after[split] for split in Split)
    assert more.facts.fingerprint != paragraphs.facts.fingerprint


@pytest.mark.parametrize(
    ("key", "part"),
    [("0", Split.TEST), ("33", Split.TEST), ("34", Split.TUNING), ("4c", Split.TUNING), ("4d", Split.TRAIN)],
)
def test_a_part_depends_on_the_key_alone(key: str, part: Split) -> None:
    """The key as a share of all keys decides: a fifth to test, a tenth to tune, the rest to train."""
    assert part_of(f"{key:0<64}") is part
    assert part_of("f" * 64) is Split.TRAIN


def test_parts_that_are_measured_have_a_cap(tmp_path: Path, paragraphs: PilotData) -> None:
    """Caps keep some of each measured part, and put none of the rest into training."""
    few = load(tmp_path, text_rows(PARAGRAPHS), options=DataOptions(tuning_items=10, test_items=20))
    assert (len(few.tuning), len(few.test), len(few.train)) == (10, 20, len(paragraphs.train))
    assert keys(few)[Split.TEST] < keys(paragraphs)[Split.TEST]


def test_repetitions_are_removed_across_parts(tmp_path: Path) -> None:
    """Rows that say the same, or that the cut makes equal, are kept once and counted."""
    alike = [f"{'the same beginning ' * 9} and end {number}" for number in range(10)]
    data = load(tmp_path, text_rows([*PARAGRAPHS, *PARAGRAPHS[:7], *alike]))
    assert data.facts.duplicates_removed == 7 + 9
    kept = Counter(bytes(example.input_ids) for split in Split for example in data.part(split))
    assert len(kept) == len(PARAGRAPHS) + 1
    assert set(kept.values()) == {1}
    assert "7 repetitions of other rows were left out" in data.notes
    assert "9 examples that became equal to others by the cut were left out" in data.notes


def test_cuts_are_counted(tmp_path: Path) -> None:
    """Truncated examples are counted, and the share of tokens that was lost is said."""
    texts = [f"{number} " + "x" * (91 if number % 2 else 3) for number in range(100, 300)]
    data = load(tmp_path, text_rows(texts), max_length=48)
    assert data.facts.truncated_examples == 100
    lost = 100 * (96 - 48) / (100 * 96 + 100 * 8)
    assert f"100 of 200 examples were cut to 48 tokens, which lost {lost:.1%} of all tokens" in data.notes
    assert max(len(example.input_ids) for example in data.train) == 48


def test_examples_without_a_token_to_train_are_left_out(tmp_path: Path) -> None:
    """A prompt that fills the whole row leaves nothing to learn, so that its example goes."""
    rows = [
        {"prompt": f"{number}" + "x" * (90 if number < 110 else 5), "completion": "y"}
        for number in range(100, 300)
    ]
    data = load(tmp_path, rows)
    assert "10 examples without a token to train on were left out" in data.notes
    assert data.facts.train_examples + data.facts.tuning_examples + data.facts.test_examples == 190
    assert data.facts.train_tokens == 2 * data.facts.train_examples  # the letter and the end


def test_rows_beyond_the_limit_are_left(tmp_path: Path) -> None:
    """Reading stops at the cap on rows, and says so."""
    data = load(tmp_path, text_rows(PARAGRAPHS), options=DataOptions(max_examples=150))
    assert "only the first 150 rows were read (--max-examples)" in data.notes
    assert data.facts.train_examples + data.facts.tuning_examples + data.facts.test_examples == 150


def test_steps_are_a_pure_function(paragraphs: PilotData) -> None:
    """A step has the same batches whenever it is asked for, and other seeds have others."""
    training = Training(batch_size=3, accumulation=2, data_seed=7)
    forward = [[batch.items for batch in batches(paragraphs, training, step=step)] for step in range(60)]
    backward = [
        [batch.items for batch in batches(paragraphs, training, step=step)] for step in reversed(range(60))
    ]
    assert forward == backward[::-1]
    other = batches(paragraphs, Training(batch_size=3, accumulation=2, data_seed=8), step=0)
    assert [batch.items for batch in other] != forward[0]


@given(size=st.integers(1, 5), accumulation=st.integers(1, 3), seed=st.integers(0, 3))
def test_an_epoch_sees_every_example_once(
    paragraphs: PilotData, size: int, accumulation: int, seed: int
) -> None:
    """Over the steps every epoch is a permutation, and the next one is another."""
    total = len(paragraphs.train)
    training = Training(batch_size=size, accumulation=accumulation, data_seed=seed)
    steps = -(-2 * total // (size * accumulation))
    seen = [
        item
        for step in range(steps)
        for batch in batches(paragraphs, training, step=step)
        for item in batch.items
    ]
    first, second = seen[:total], seen[total : 2 * total]
    assert sorted(first) == sorted(second) == list(range(total))
    assert first != second


def test_batches_are_padded_on_the_right(paragraphs: PilotData) -> None:
    """Rows come as they are; what fills them up is masked, carries no label, and needs no padding token."""
    batch = batches(paragraphs, Training(batch_size=6), step=0)[0]
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    for row, item in enumerate(batch.items):
        example = paragraphs.train[item]
        length = len(example.input_ids)
        assert batch.inputs["input_ids"][row, :length].tolist() == list(example.input_ids)
        assert batch.labels[row, :length].tolist() == list(example.labels)
        assert batch.inputs["attention_mask"][row].tolist() == [1] * length + [0] * (
            batch.labels.shape[1] - length
        )
        assert (batch.labels[row, length:] == IGNORED).all()
        assert (batch.inputs["input_ids"][row, length:] == paragraphs.pad_token_id).all()
    assert batch.labels.dtype == batch.inputs["input_ids"].dtype == torch.int64


def test_evaluation_sees_every_item_once(paragraphs: PilotData) -> None:
    """A part is passed over once, longest first, and items say which example a row is."""
    made = list(evaluation_batches(paragraphs, Split.TEST, batch_size=7))
    assert sorted(item for batch in made for item in batch.items) == list(range(len(paragraphs.test)))
    lengths = [len(paragraphs.test[item].input_ids) for batch in made for item in batch.items]
    assert lengths == sorted(lengths, reverse=True)


def test_every_process_makes_the_same(tmp_path: Path, paragraphs: PilotData) -> None:
    """Another process, with another hash seed, has the same fingerprint and the same steps."""
    path = write(tmp_path / "rows.jsonl", text_rows(PARAGRAPHS))
    code = (
        "import sys\n"
        "from lora_probe.piloting.data import load_data, batches\n"
        "from lora_probe.piloting.records import Task, Training\n"
        "from tests.pilot_tokenizers import byte_tokenizer\n"
        "data = load_data(sys.argv[1], task=Task.CAUSAL_LM, tokenizer=byte_tokenizer(), max_length=64)\n"
        "print(data.facts.fingerprint, batches(data, Training(), step=123)[0].items)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    items = batches(paragraphs, Training(), step=123)[0].items
    assert done.stdout.splitlines()[-1] == f"{paragraphs.facts.fingerprint} {items}"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_packing_keeps_every_example_whole(lengths: list[int], order: random.Random) -> None:
    """Rows hold each example once and whole, none is overfull, and no two of them would fit into one."""
    examples = [
        Example(key=f"{at:064x}", input_ids=array("i", [at] * length), labels=array("i", [at] * length))
        for at, length in enumerate(lengths)
    ]
    rows = pack(examples, length=20)
    assert rows == pack(order.sample(examples, len(examples)), length=20)
    assert Counter(token for row in rows for token in row.input_ids) == Counter(dict(enumerate(lengths)))
    for row in rows:
        assert len(row.input_ids) == sum(row.documents) <= 20
        at = 0
        for length in row.documents:
            assert len(set(row.input_ids[at : at + length])) == 1
            assert row.labels[at] == IGNORED
            assert IGNORED not in row.labels[at + 1 : at + length]
            at += length
    fullest = sorted(len(row.input_ids) for row in rows)
    assert len(rows) < 2 or fullest[0] + fullest[1] > 20


def test_packed_rows_train_as_examples_do(tmp_path: Path) -> None:
    """A model sees in a packed row what it sees in its examples one by one: no word of a neighbour."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from lora_probe.piloting.engine.loss import item_losses, model_inputs

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    rows = text_rows([text[: 5 + 7 * (at % 6)] for at, text in enumerate(PARAGRAPHS[:120])])
    packed, plain = (load(tmp_path, rows, packing=packing) for packing in (True, False))
    assert len(packed.train) < len(plain.train) == packed.facts.train_examples
    totals = []
    for data in (packed, plain):
        seen, nll, tokens = 0, 0.0, 0
        for step in range(len(data.train)):
            batch = batches(data, Training(batch_size=1), step=step)[0]
            with torch.no_grad():
                losses, counts = item_losses(
                    model(**model_inputs(model, batch)).logits, batch.labels, Task.CAUSAL_LM
                )
            seen, nll, tokens = seen + 1, nll + float(losses.sum()), tokens + int(counts.sum())
        totals.append((tokens, nll))
    assert totals[0][0] == totals[1][0]
    assert totals[0][1] == pytest.approx(totals[1][1], rel=1e-5)


def test_a_packed_batch_says_where_documents_begin(tmp_path: Path) -> None:
    """Positions start anew with each document and with the padding, and no mask hides that."""
    data = load(tmp_path, text_rows(PARAGRAPHS), packing=True)
    batch = batches(data, Training(batch_size=4), step=0)[0]
    assert set(batch.inputs) == {"input_ids", "position_ids"}
    for row, item in enumerate(batch.items):
        documents = data.train[item].documents
        starts = (batch.inputs["position_ids"][row] == 0).nonzero().flatten().tolist()
        edges = [sum(documents[:count]) for count in range(len(documents) + 1)]
        assert starts == [edge for edge in edges if edge < batch.labels.shape[1]]


def test_any_tokenizer_pads() -> None:
    """The padding token pads, or else the end of sequence, or else the first token of all."""
    from lora_probe.piloting.data.loading import _padding

    assert _padding(byte_tokenizer(pad="<pad>")) == byte_tokenizer(pad="<pad>").pad_token_id
    assert _padding(byte_tokenizer()) == byte_tokenizer().eos_token_id
    assert _padding(byte_tokenizer(eos=None)) == 0


def test_a_million_characters_are_one_example(tmp_path: Path) -> None:
    """A huge row is cut like any other."""
    data = load(tmp_path, text_rows([*PARAGRAPHS[:150], "word " * 200_000]))
    assert data.facts.truncated_examples >= 1


@pytest.mark.parametrize(
    ("rows", "told", "error", "said"),
    [
        (text_rows(PARAGRAPHS[:20]), {}, TooLittleData, "each part needs at least 8; give some hundreds"),
        (text_rows(["only this"] * 500), {}, TooLittleData, "is too small"),
        (
            text_rows(["a"] * 20),
            {"tokenizer": byte_tokenizer(eos=None)},
            NoUsableData,
            "none of 1 examples has a token",
        ),
        (
            text_rows(PARAGRAPHS),
            {"positions": 32},
            LongerThanModel,
            "longer than the model's 32 positions; cut them",
        ),
        (text_rows(PARAGRAPHS), {"max_length": 2}, BadDataOption, "max length '2' is below 4 tokens"),
        (text_rows(PARAGRAPHS), {"task": Task.MASKED_LM, "packing": True}, BadDataOption, "packing"),
        (text_rows(PARAGRAPHS), {"task": Task.MASKED_LM}, UnfitTokenizer, "has no mask token"),
        (
            text_rows(PARAGRAPHS),
            {"options": DataOptions(split="test")},
            BadDataOption,
            "data_split 'test' is for dataset ids, and the data are files",
        ),
        (
            text_rows(PARAGRAPHS),
            {"options": DataOptions(test_items=2)},
            BadDataOption,
            "test items '2' is too few",
        ),
        (
            text_rows(PARAGRAPHS),
            {"options": DataOptions(train_on=TrainOn.COMPLETION)},
            BadDataOption,
            "train on 'completion' needs prompt and completion, not text",
        ),
        (
            text_rows(PARAGRAPHS),
            {"options": DataOptions(train_on=TrainOn.ASSISTANT)},
            BadDataOption,
            "train on 'assistant' needs conversations, not text as texts",
        ),
        (
            [{"messages": [turn("user", "hello")]}],
            {},
            UnfitTokenizer,
            "has no chat template, and the data holds",
        ),
        (
            [{"messages": [turn("user", "hello")]}],
            {"tokenizer": byte_tokenizer(template="{{ raise_exception('roles must alternate') }}")},
            BadExample,
            "line 1: the tokenizer's chat template refuses it (roles must alternate)",
        ),
        (
            [{"messages": [turn("user", "hello")], "tools": "no"}],
            {"tokenizer": byte_tokenizer(template=CHATML)},
            BadExample,
            "line 1: its tools are a text that is no JSON",
        ),
        (
            [{"messages": [turn("user", "hello")], "chat_template_kwargs": 5}],
            {"tokenizer": byte_tokenizer(template=CHATML)},
            BadExample,
            "line 1: its chat_template_kwargs are no object",
        ),
    ],
)
def test_data_that_does_not_fit_is_one_sentence(
    tmp_path: Path, rows: list[dict[str, Any]], told: dict[str, Any], error: type[Exception], said: str
) -> None:
    """What cannot be trained on is refused with what is wrong and what to do."""
    with pytest.raises(error) as caught:
        load(tmp_path, rows, **told)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_examples_within_the_model_may_be_cut_later(tmp_path: Path) -> None:
    """A longer cut than the model has positions hurts nobody where no example is that long."""
    short = text_rows([text[:20] + str(at) for at, text in enumerate(PARAGRAPHS)])
    assert load(tmp_path, short, positions=40).facts.truncated_examples == 0


def test_a_fingerprint_knows_where_fields_end(paragraphs: PilotData) -> None:
    """The same numbers with another border between tokens and labels are other data."""
    first, second = (
        replace(paragraphs, test=(Example(key="", input_ids=array("i", ids), labels=array("i", labels)),))
        for ids, labels in (([1, 2], [3]), ([1], [2, 3]))
    )
    assert fingerprint(first) != fingerprint(second)


def test_the_facts_say_how_data_was_read(paragraphs: PilotData) -> None:
    """The options in the facts are JSON, and hold what decides about the examples."""
    options = json.loads(json.dumps(dict(paragraphs.facts.options)))
    assert options["columns"] == {"text": "text"}
    assert options["kind"] == "text"
    assert options["max_length"] == 64
