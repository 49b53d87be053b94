"""Data of every task but causal language modelling: labels where they belong, shapes that models take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.piloting.data import DataOptions, PilotData, batches, evaluation_batches, load_data
from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.errors import BadExample, MissingColumn, NoUsableData, UnfitTokenizer
from lora_probe.piloting.records import Split, Task, Training
from tests.pilot_tokenizers import byte_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

BERT: dict[str, Any] = {"pairs": True, "pad": "[PAD]", "mask": "[MASK]", "eos": None}
COUNT = 200


def load(path: Path, rows: list[dict[str, Any]], task: Task, tokenizer: Any = None, **told: Any) -> PilotData:
    """Load rows of a task, by way of a file."""
    file = path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_data(
        str(file), task=task, tokenizer=tokenizer or byte_tokenizer(**BERT), **{"max_length": 32, **told}
    )


def every(data: PilotData) -> list[Any]:
    """Return the examples of all parts."""
    return [example for split in Split for example in data.part(split)]


def texts(count: int = COUNT) -> list[str]:
    """Return different texts of different lengths."""
    return [f"the {number} hens" + "!" * (number % 5) for number in range(count)]


def test_masks_of_evaluation_are_fixed(tmp_path: Path) -> None:
    """Measured examples are masked once: alike in every batch and in another order of the file."""
    rows = [{"text": text} for text in texts()]
    data, again = (load(tmp_path, order, Task.MASKED_LM) for order in (rows, rows[::-1]))
    assert data.test == again.test
    assert data.facts.fingerprint == again.facts.fingerprint
    mask = byte_tokenizer(**BERT).mask_token_id
    hidden = changed = kept = 0
    for example in (*data.test, *data.tuning):
        chosen = [place for place, label in enumerate(example.labels) if label != IGNORED]
        assert len(chosen) == max(1, round(0.15 * (len(example.input_ids) - 2)))
        assert 0 not in chosen
        assert len(example.input_ids) - 1 not in chosen
        for place in chosen:
            hidden += example.input_ids[place] == mask
            kept += example.input_ids[place] == example.labels[place]
            changed += example.input_ids[place] not in (mask, example.labels[place])
    total = hidden + changed + kept
    assert 0.65 < hidden / total < 0.95
    assert changed
    assert kept


def test_masks_of_training_change_with_the_step(tmp_path: Path) -> None:
    """An example is masked anew each time it is seen, and alike when a step is asked for again."""
    data = load(tmp_path, [{"text": text} for text in texts(120)], Task.MASKED_LM)
    total = len(data.train)
    training = Training(batch_size=total)
    first, again, second = (batches(data, training, step=step)[0] for step in (0, 0, 1))
    assert first.labels.equal(again.labels)
    assert first.inputs["input_ids"].equal(again.inputs["input_ids"])
    at = second.items.index(first.items[0])
    seen = [batch.labels[row].tolist() for batch, row in ((first, 0), (second, at))]
    assert seen[0] != seen[1]
    labelled = first.labels != IGNORED
    assert (labelled.sum(1) >= 1).all()
    assert not (labelled & (first.inputs["attention_mask"] == 0)).any()


def test_a_masked_model_takes_the_batches(tmp_path: Path) -> None:
    """BERT's forward accepts all inputs, and logits and labels have the same places."""
    from transformers import BertConfig, BertForMaskedLM

    data = load(tmp_path, [{"text": text} for text in texts()], Task.MASKED_LM)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=300, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
    )
    batch = next(evaluation_batches(data, Split.TEST, batch_size=4))
    assert model(**batch.inputs).logits.shape[:2] == batch.labels.shape


@pytest.mark.parametrize(
    ("source", "target"), [("prompt", "completion"), ("text", "summary"), ("input", "target")]
)
def test_targets_are_labels_of_their_own(tmp_path: Path, source: str, target: str) -> None:
    """Sequence-to-sequence rows have the source as input and the target's own tokens as labels."""
    rows = [{source: text, target: text.upper()[:9]} for text in texts()]
    data = load(tmp_path, rows, Task.SEQ2SEQ)
    tokenizer = byte_tokenizer(**BERT)
    by_input = {tokenizer.decode(example.input_ids): example for example in every(data)}
    example = by_input["[CLS]the 17 hens!![SEP]"]
    assert tokenizer.decode(example.labels) == "[CLS]THE 17 HE[SEP]"
    batch = batches(data, Training(batch_size=5), step=0)[0]
    assert batch.labels.shape[1] < batch.inputs["input_ids"].shape[1]
    assert set(batch.inputs) == {"input_ids", "attention_mask"}


def test_a_sequence_to_sequence_model_takes_the_batches(tmp_path: Path) -> None:
    """T5 makes its decoder's inputs from the labels, and its logits stand where the labels stand."""
    from transformers import T5Config, T5ForConditionalGeneration

    data = load(tmp_path, [{"text": text, "target": text[:9]} for text in texts()], Task.SEQ2SEQ)
    config = T5Config(vocab_size=300, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    batch = batches(data, Training(batch_size=4), step=3)[0]
    decoder = model.prepare_decoder_input_ids_from_labels(labels=batch.labels)
    assert model(**batch.inputs, decoder_input_ids=decoder).logits.shape[:2] == batch.labels.shape


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["yes", "no"], ("no", "yes")),
        ([0, 1], ("0", "1")),
        ([-1, 5, 10], ("-1", "5", "10")),
        (["10", "9"], ("9", "10")),
        ([True, False], ("0", "1")),
        ([1.0, 2.0], ("1", "2")),
    ],
)
def test_classes_are_numbered_in_a_fixed_order(
    tmp_path: Path, labels: list[Any], names: tuple[str, ...]
) -> None:
    """Labels become classes by size or by name, whatever stands first in the file."""
    rows = [{"text": text, "label": labels[at % len(labels)]} for at, text in enumerate(texts())]
    data = load(tmp_path, rows, Task.SEQUENCE_CLASSIFICATION)
    assert data.label_names == names
    expected = {row["text"]: row["label"] for row in rows}
    for example in every(data):
        text = byte_tokenizer(**BERT).decode(example.input_ids, skip_special_tokens=True)
        label = expected[text]
        assert data.label_names[example.labels[0]] == str(int(label) if not isinstance(label, str) else label)
    batch = batches(data, Training(batch_size=5), step=0)[0]
    assert batch.labels.shape == (5,)


def test_pairs_of_texts_keep_their_types(tmp_path: Path) -> None:
    """Two texts are framed and told apart as the tokenizer does it, and cut with their frame kept."""
    rows = [{"premise": text, "hypothesis": text[4:] * 3, "label": at % 2} for at, text in enumerate(texts())]
    data = load(tmp_path, rows, Task.SEQUENCE_CLASSIFICATION, max_length=24)
    tokenizer = byte_tokenizer(**BERT)
    batch = batches(data, Training(batch_size=5), step=0)[0]
    assert set(batch.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    for example in every(data):
        ids = list(example.input_ids)
        separator = tokenizer.convert_tokens_to_ids("[SEP]")
        assert ids.count(separator) == 2
        assert ids[-1] == separator
        types = list(example.token_type_ids)
        assert types == [0] * (ids.index(separator) + 1) + [1] * (len(ids) - ids.index(separator) - 1)
    assert data.facts.truncated_examples > 0
    assert max(len(example.input_ids) for example in every(data)) == 24


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        (
            Task.SEQUENCE_CLASSIFICATION,
            [{"text": text, "label": label} for text in texts() for label in ("a", "b")],
        ),
        (
            Task.SEQUENCE_CLASSIFICATION,
            [{"text": f"{text:!<32}{label}", "label": label} for text in texts() for label in ("a", "b")],
        ),
        (
            Task.SEQ2SEQ,
            [{"source": text, "target": target} for text in texts() for target in ("one", "other")],
        ),
    ],
    ids=["several labels", "different after the cut", "several targets"],
)
def test_one_question_is_in_one_part(tmp_path: Path, task: Task, rows: list[dict[str, Any]]) -> None:
    """What a model is shown with several answers is in one part only: what is tested was not trained on."""
    data = load(tmp_path, rows, task)
    assert len(every(data)) == 2 * COUNT
    inputs = {split: {bytes(example.input_ids) for example in data.part(split)} for split in Split}
    assert not inputs[Split.TRAIN] & inputs[Split.TEST]
    assert not inputs[Split.TUNING] & (inputs[Split.TRAIN] | inputs[Split.TEST])


def test_the_first_token_of_a_word_has_its_label(tmp_path: Path) -> None:
    """Words that become several tokens are labelled once; words without a label, and frames, not at all."""
    rows = [
        {"tokens": ["the", f"hen{number}", "lays"], "ner_tags": ["O", "B", -100]}
        for number in range(100, 300)
    ]
    data = load(tmp_path, rows, Task.TOKEN_CLASSIFICATION, byte_tokenizer(**BERT, prefix_space=True))
    assert data.label_names == ("B", "O")
    example = every(data)[0]
    tokenizer = byte_tokenizer(**BERT, prefix_space=True)
    said = {
        place: (tokenizer.decode([example.input_ids[place]]), data.label_names[label])
        for place, label in enumerate(example.labels)
        if label != IGNORED
    }
    assert len(example.input_ids) > 6
    assert said == {1: (" the", "O"), 2: (" ", "B")}


def test_classes_that_a_dataset_names(tmp_path: Path) -> None:
    """Names that a Parquet file carries for its numbers are the classes, also those that no row has."""
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good", "none"])})
    path = tmp_path / "rows.parquet"
    Dataset.from_dict(
        {"text": texts(), "label": [at % 2 for at in range(COUNT)]}, features=features
    ).to_parquet(path)
    data = load_data(
        str(path), task=Task.SEQUENCE_CLASSIFICATION, tokenizer=byte_tokenizer(**BERT), max_length=32
    )
    assert data.label_names == ("bad", "good", "none")
    assert {example.labels[0] for example in every(data)} == {0, 1}


@pytest.mark.parametrize(
    ("task", "row", "error", "said"),
    [
        (Task.SEQUENCE_CLASSIFICATION, {"label": 1}, NoUsableData, "every label is '1'"),
        (
            Task.SEQUENCE_CLASSIFICATION,
            {"label": 0.5},
            BadExample,
            "line 1: its label is 0.5, not a whole number",
        ),
        (
            Task.SEQUENCE_CLASSIFICATION,
            {"label": [1]},
            BadExample,
            "line 1: its label is [1], not a whole number",
        ),
        (Task.SEQUENCE_CLASSIFICATION, {"stars": 1}, MissingColumn, "no column text and label"),
        (
            Task.TOKEN_CLASSIFICATION,
            {"tokens": ["a"], "labels": [1, 2]},
            BadExample,
            "its tokens and labels are not equally many: 1 and 2",
        ),
        (
            Task.TOKEN_CLASSIFICATION,
            {"tokens": "a", "labels": [1]},
            BadExample,
            "its tokens is 'a', not a list",
        ),
        (
            Task.TOKEN_CLASSIFICATION,
            {"tokens": [5], "labels": [1]},
            BadExample,
            "its tokens[0] is 5, not a text",
        ),
        (Task.SEQ2SEQ, {"target": [{"role": "user", "content": "a"}]}, BadExample, "line 1: "),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(
    tmp_path: Path, task: Task, row: dict[str, Any], error: type[Exception], said: str
) -> None:
    """What is no label, or no class, is refused with the row."""
    rows = [{"text": text, **row} for text in texts()]
    with pytest.raises(error) as caught:
        load(tmp_path, rows, task)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_free_texts_are_no_classes(tmp_path: Path) -> None:
    """A column with a value of its own in each row is no label."""
    rows = [{"text": text, "label": text} for text in texts()]
    with pytest.raises(NoUsableData, match="200 examples have 200 different labels, which are no classes"):
        load(tmp_path, rows, Task.SEQUENCE_CLASSIFICATION)


@pytest.mark.parametrize("prefix_space", [True, False])
def test_split_words_are_tokenized_as_text(tmp_path: Path, prefix_space: bool) -> None:
    """Words make the tokens of the text that they stand in, also where a tokenizer runs them together."""
    tokenizer = byte_tokenizer(**BERT, prefix_space=prefix_space)
    rows: list[dict[str, Any]] = [
        {"tokens": ["the", f"hen{at}", "in", "the"], "labels": [0, 1, 2, 3]} for at in range(COUNT)
    ]
    data = load(tmp_path, rows, Task.TOKEN_CLASSIFICATION, tokenizer)
    as_text = {tuple(tokenizer(" ".join(row["tokens"]))["input_ids"]) for row in rows}
    assert {tuple(example.input_ids) for example in every(data)} == as_text
    assert all(
        [label for label in example.labels if label != IGNORED] == [0, 1, 2, 3] for example in every(data)
    )


def test_words_need_a_tokenizer_that_counts_them(tmp_path: Path) -> None:
    """A tokenizer written in Python cannot say which word a token came from."""
    from transformers import ByT5Tokenizer

    rows = [{"tokens": ["a", str(at)], "labels": [0, 1]} for at in range(COUNT)]
    with pytest.raises(UnfitTokenizer, match="cannot tell which word a token came from"):
        load(tmp_path, rows, Task.TOKEN_CLASSIFICATION, ByT5Tokenizer())


def test_the_columns_of_a_task_can_be_mapped(tmp_path: Path) -> None:
    """Text and label may be called anything."""
    rows = [{"review": text, "stars": at % 3} for at, text in enumerate(texts())]
    options = DataOptions(columns={"text": "review", "label": "stars"})
    data = load(tmp_path, rows, Task.SEQUENCE_CLASSIFICATION, options=options)
    assert data.label_names == ("0", "1", "2")
