"""From what a user names to the three parts of a pilot's data."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.contents import read_contents
from lora_probe.piloting.data.examples import IGNORED, DataOptions, Masking, PilotData
from lora_probe.piloting.data.hub import read_dataset
from lora_probe.piloting.data.masking import masked
from lora_probe.piloting.data.packing import pack
from lora_probe.piloting.data.preparing import prepare
from lora_probe.piloting.data.reading import read_files
from lora_probe.piloting.data.remarks import remarks
from lora_probe.piloting.data.sources import find_sources
from lora_probe.piloting.data.splitting import SHARES
from lora_probe.piloting.errors import BadDataOption, LongerThanModel, NoUsableData, TooLittleData
from lora_probe.piloting.records import DataFacts, Split, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_probe.piloting.data.layouts import Layout
    from lora_probe.piloting.data.preparing import Prepared
    from lora_probe.piloting.data.rows import Rows

__all__ = ["LEAST", "fingerprint", "load_data", "read_rows"]

LEAST = 8
"""Examples that each part needs: far too few for a verdict, enough to try things out."""
_SHORTEST = 4
"""Tokens that a row must have room for."""


def load_data(
    source: str | Sequence[str],
    *,
    task: Task,
    tokenizer: Any,
    max_length: int,
    packing: bool = False,
    positions: int | None = None,
    options: DataOptions | None = None,
    head_classes: Sequence[str] = (),
) -> PilotData:
    """Read, tokenize and split data.

    `source` names files (JSON Lines, JSON, CSV, TSV, Parquet, plain text), a folder of such, or a dataset id.
    Rows are cut to `max_length` tokens; with `packing`, several examples to train on share a row of that
    length. `positions` is how many tokens the model can see, where it has a limit. `head_classes` are those
    of a classifier that is trained further: labels get its numbers where it knows them all.

    Raises:
        DataNotFound, DatasetUnavailable, UnreadableData: the source gives no rows.
        MissingColumn, BadExample, NoUsableData, TooLittleData: the rows are not what the task needs.
        LongerThanModel: an example is longer than `positions` and would not be cut before.
        UnfitTokenizer: the tokenizer cannot make what the task needs.
        BadDataOption: an option does not exist, or does not fit the data or the task.

    """
    options = options if options is not None else DataOptions()
    _check(task, max_length=max_length, packing=packing, options=options)
    name = source if isinstance(source, str) else ", ".join(source)
    rows = read_rows(source, options)
    contents = read_contents(rows, task=task, mapped=options.columns, source=name)
    prepared = prepare(
        contents,
        rows.class_names,
        task=task,
        tokenizer=tokenizer,
        max_length=max_length,
        positions=positions,
        options=options,
        head_classes=head_classes,
        source=name,
    )
    _check_enough(prepared, source=name, positions=positions)
    train = prepared.parts[Split.TRAIN]
    # The smallest keys: which examples these are does not change much as data is added.
    tuning = prepared.parts[Split.TUNING][: options.tuning_items]
    test = prepared.parts[Split.TEST][: options.test_items]
    masking = None
    if task is Task.MASKED_LM:
        masking = Masking(mask_token_id=tokenizer.mask_token_id, vocabulary=len(tokenizer))
        tuning = tuple(masked(example, masking, seed="evaluation") for example in tuning)
        test = tuple(masked(example, masking, seed="evaluation") for example in test)
    rows_to_train = pack(train, length=max_length) if packing else train
    notes = remarks(
        contents,
        prepared,
        more=rows.more,
        max_examples=options.max_examples,
        max_length=max_length,
        test=len(test),
    )
    facts = DataFacts(
        source=name,
        sources=(name,) if isinstance(source, str) else tuple(source),
        task=task,
        train_examples=len(train),
        tuning_examples=len(tuning),
        test_examples=len(test),
        train_tokens=sum(len(row.labels) - row.labels.count(IGNORED) for row in rows_to_train),
        truncated_examples=prepared.truncated,
        duplicates_removed=contents.duplicates + prepared.alike,
        options=_options(options, contents.layout, max_length=max_length, packing=packing),
    )
    data = PilotData(
        facts=facts,
        train=rows_to_train,
        tuning=tuning,
        test=test,
        pad_token_id=_padding(tokenizer),
        label_names=prepared.label_names,
        masking=masking,
        notes=tuple(notes),
    )
    return replace(data, facts=replace(facts, fingerprint=fingerprint(data)))


def read_rows(source: str | Sequence[str], options: DataOptions) -> Rows:
    """Return the rows of files, of a folder or of a dataset id; raises what is said of the source above."""
    found = find_sources(source)
    if isinstance(found, str):
        return read_dataset(found, options)
    for option in ("name", "split", "revision"):
        if value := getattr(options, option):
            problem = "is for dataset ids, and the data are files"
            raise BadDataOption(option=f"data_{option}", value=value, problem=problem)
    return read_files(found, limit=options.max_examples, text_unit=options.text_unit)


def fingerprint(data: PilotData) -> str:
    """Return the SHA-256 over the tokens and labels of every example, part by part, and the classes."""
    digest = hashlib.sha256(repr((data.facts.task.value, data.label_names, data.masking)).encode())
    for split in Split:
        for example in data.part(split):
            types = example.token_type_ids if example.token_type_ids is not None else array("i")
            fields = (example.input_ids, example.labels, types, array("i", example.documents))
            # The lengths keep what ends one field from passing for the beginning of the next.
            digest.update(f"{split.value} {example.key} {[len(each) for each in fields]}".encode())
            for each in fields:
                digest.update(each.tobytes())
    return digest.hexdigest()


def _check(task: Task, *, max_length: int, packing: bool, options: DataOptions) -> None:
    if max_length < _SHORTEST:
        raise BadDataOption(
            option="max length", value=str(max_length), problem=f"is below {_SHORTEST} tokens"
        )
    if packing and task is not Task.CAUSAL_LM:
        raise BadDataOption(
            option="packing", value="true", problem=f"is for causal language models, not for {task}"
        )
    for option in ("max_examples", "tuning_items", "test_items"):
        if getattr(options, option) < LEAST:
            problem = f"is too few: give {LEAST} or more"
            raise BadDataOption(
                option=option.replace("_", " "), value=str(getattr(options, option)), problem=problem
            )


def _check_enough(prepared: Prepared, *, source: str, positions: int | None) -> None:
    if prepared.too_long and positions is not None:
        raise LongerThanModel(examples=prepared.too_long, total=prepared.total, positions=positions)
    train, tuning, test = (len(prepared.parts[split]) for split in (Split.TRAIN, Split.TUNING, Split.TEST))
    if train + tuning + test == 0:
        problem = f"none of {prepared.total} examples has a token to train on within the length that is kept"
        raise NoUsableData(source=source, problem=problem)
    if min(train, tuning, test) < LEAST:
        raise TooLittleData(source=source, train=train, tuning=tuning, test=test, least=LEAST)


def _padding(tokenizer: Any) -> int:
    """Return the id that fills rows up; attention masks hide it, so that any does where there is none."""
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in found if token is not None)


def _options(options: DataOptions, layout: Layout, *, max_length: int, packing: bool) -> Mapping[str, Any]:
    return {
        "kind": layout.kind.value,
        "columns": dict(layout.columns),
        "train_on": options.train_on.value,
        "name": options.name,
        "split": options.split,
        "revision": options.revision,
        "max_examples": options.max_examples,
        "text_unit": options.text_unit,
        "max_length": max_length,
        "packing": packing,
        "tuning_items": options.tuning_items,
        "test_items": options.test_items,
        "shares": {split.value: share for split, share in SHARES.items()},
    }
