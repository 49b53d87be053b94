"""Tokens and labels are those of TRL's `SFTTrainer`: the golden file is what TRL 1.16 made of each case."""

from __future__ import annotations

import json
from array import array
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lora_probe.piloting.data import Example, TrainOn
from lora_probe.piloting.data.contents import read_contents
from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.data.language import tokenize_language
from lora_probe.piloting.data.packing import pack
from lora_probe.piloting.data.rows import Rows
from lora_probe.piloting.records import Task
from tests.golden import FOLDER, check_golden
from tests.pilot_tokenizers import CHATML, byte_tokenizer
from tests.test_export_trainers import folder_of
from tests.trl_cases import CASES, TALKS, TrlCase

if TYPE_CHECKING:
    from collections.abc import Sequence

GOLDEN = "trl_sft.jsonl"
LENGTHS = (5, 9, 2, 30, 31, 8, 8, 3, 17, 12, 1, 40, 22, 4, 4, 26)


def ours(case: TrlCase) -> list[dict[str, list[int]]]:
    """Return tokens and labels of a case, as lora-probe makes them, without examples that train nothing."""
    rows = Rows(rows=case.rows, places=tuple(f"row {count}" for count, _ in enumerate(case.rows, 1)))
    contents = read_contents(rows, task=Task.CAUSAL_LM, mapped={}, source="case")
    made = tokenize_language(
        contents.contents,
        contents.layout.kind,
        tokenizer=byte_tokenizer(**case.tokenizer),
        train_on=case.train_on,
        max_length=case.max_length,
    )
    return [
        {"input_ids": list(each.input_ids), "labels": list(each.labels)}
        for each in made
        if any(label != IGNORED for label in each.labels)
    ]


def trls(case: TrlCase, *, packing: bool = False) -> list[dict[str, list[int]]]:
    """Return what `SFTTrainer` makes of the same, by its own method of preparation."""
    folder_of("trl")
    from datasets import Dataset

    trainer = import_module("trl.trainer.sft_trainer").SFTTrainer
    tokenizer = byte_tokenizer(**case.tokenizer)
    replies = {"prompt", "completion"} <= case.rows[0].keys()
    itself = SimpleNamespace(
        _tokenizer=tokenizer,
        chat_template=None,
        completion_only_loss=replies and case.train_on is not TrainOn.ALL,
    )
    settings = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=case.train_on is TrainOn.ASSISTANT,
        max_length=case.max_length,
        truncation_mode="keep_start",
        shuffle_dataset=False,
        packing_strategy="bfd",
    )
    data = Dataset.from_list(list(case.rows))
    made = trainer._prepare_dataset(itself, data, tokenizer, settings, packing, None, "train")
    return [{name: row[name] for name in ("input_ids", "labels")} for row in made]


def examples_of(case: TrlCase) -> list[Example]:
    """Return a case as examples."""
    return [
        Example(key=f"{at:064x}", input_ids=array("i", made["input_ids"]), labels=array("i", made["labels"]))
        for at, made in enumerate(ours(case))
    ]


def as_golden(made: dict[str, Sequence[dict[str, list[int]]]]) -> str:
    """Return one line of JSON per example, with the name of its case."""
    lines = (json.dumps({"case": name, **example}) for name, examples in made.items() for example in examples)
    return "\n".join(lines) + "\n"


def test_tokens_and_labels_are_those_of_trl() -> None:
    """Every case gives, token by token, what TRL gave: text, prompts, conversations, masks, cuts, tools."""
    assert as_golden({case.name: ours(case) for case in CASES}) == (FOLDER / GOLDEN).read_text("utf-8")


@pytest.mark.trainers
@pytest.mark.filterwarnings("ignore")
def test_trl_itself_makes_what_the_golden_file_holds() -> None:
    """The golden file is TRL's own answer; with the switch that updates golden files it is written anew."""
    check_golden(GOLDEN, as_golden({case.name: trls(case) for case in CASES}))


@pytest.mark.trainers
@pytest.mark.filterwarnings("ignore")
def test_packing_fills_rows_as_trl_does() -> None:
    """Best-fit decreasing ends with as many rows, filled as far, as TRL's own."""
    rows = tuple(
        {"text": chr(ord("a") + at) * (length - 1)} for at, length in enumerate(LENGTHS) if length > 1
    )
    case = TrlCase(name="packing", rows=rows, max_length=40)
    theirs, packed = trls(case, packing=True), pack(examples_of(case), length=40)
    assert sorted(len(row["input_ids"]) for row in theirs) == sorted(len(row.input_ids) for row in packed)


def test_a_turn_is_found_without_marks() -> None:
    """A template without generation marks gives the labels that the same template with marks gives."""
    mark = "{% if message.role == 'assistant' %}<|im_start|>assistant\n{% generation %}"
    said = "{{ message.content }}<|im_end|>\n"
    anyone = "<|im_start|>{{ message.role }}\n" + said
    marked = CHATML.replace(anyone, f"{mark}{said}{{% endgeneration %}}{{% else %}}{anyone}{{% endif %}}")
    bare, told = (
        ours(TrlCase(name="", rows=TALKS, tokenizer={"template": each}, train_on=TrainOn.ASSISTANT))
        for each in (CHATML, marked)
    )
    assert bare == told
    assert all(IGNORED in each["labels"] for each in bare)


def test_what_ends_the_whole_conversation_ends_no_turn() -> None:
    """A template that closes a conversation with the end of sequence still shows where each turn ends."""
    closed = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    case = TrlCase(name="", rows=TALKS, tokenizer={"template": closed}, train_on=TrainOn.ASSISTANT)
    tokenizer = byte_tokenizer()
    spoken = [label for label in ours(case)[0]["labels"] if label != IGNORED]
    assert tokenizer.decode(spoken) == "the inn<|im_end|>\nlo<|im_end|>\n<|end|>"
