"""Text to be remembered: what a model forgot by training is measured on it, beside the parts of the data."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.contents import read_contents
from lora_probe.piloting.data.examples import DataOptions
from lora_probe.piloting.data.loading import LEAST, fingerprint, read_rows
from lora_probe.piloting.data.masking import masked
from lora_probe.piloting.data.preparing import prepare
from lora_probe.piloting.data.remarks import left_out
from lora_probe.piloting.errors import BadDataOption
from lora_probe.piloting.records import Split, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.data.examples import PilotData

__all__ = ["with_retention"]

_CLASSIFICATION = frozenset({Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION})


def with_retention(
    data: PilotData,
    source: str,
    *,
    tokenizer: Any,
    max_length: int,
    positions: int | None = None,
    options: DataOptions | None = None,
) -> PilotData:
    """Return `data` with the text of `source` beside it: files or a dataset id, as for `load_data`.

    It need not look like the data: of `options`, columns count where it has them, and what says which part of
    a dataset is read does not count. Up to as many examples are kept as there are test items, those with the
    smallest keys; what is trained on or measured as data is left out.

    Raises:
        DataNotFound, DatasetUnavailable, UnreadableData, MissingColumn, BadExample: as `load_data`.
        BadDataOption: too little is left, or the task is a classification, whose loss is of no text.

    """
    options = options if options is not None else DataOptions()
    task = data.facts.task
    if task in _CLASSIFICATION:
        problem = f"needs a language model: for {task} there is no loss of other text"
        raise BadDataOption(option="retention", value=source, problem=problem)
    own = DataOptions(token=options.token, max_examples=options.max_examples, text_unit=options.text_unit)
    rows = read_rows(source, own)
    there = {column for row in rows.rows for column in row}
    columns = {meaning: column for meaning, column in options.columns.items() if column in there}
    prepared = prepare(
        read_contents(rows, task=task, mapped=columns, source=source),
        rows.class_names,
        task=task,
        tokenizer=tokenizer,
        max_length=min(max_length, positions or max_length),
        positions=positions,
        options=own,
        source=source,
    )
    keys = {each.key for split in Split for each in data.part(split)}
    packed = set(_packed(data))
    examples = sorted((each for part in prepared.parts.values() for each in part), key=lambda each: each.key)
    apart = [each for each in examples if each.key not in keys and each.input_ids.tobytes() not in packed]
    if len(apart) < LEAST:
        problem = f"holds {len(apart)} examples that are not in the data, too: give {LEAST} or more"
        raise BadDataOption(option="retention", value=source, problem=problem)
    kept = tuple(apart[: options.test_items])
    if data.masking is not None:
        kept = tuple(masked(each, data.masking, seed="evaluation") for each in kept)
    met = len(examples) - len(apart)
    what = "of the retention text that the data hold, too,"
    notes = (left_out(met, f"example {what}", f"examples {what}"),) if met else ()
    facts = replace(data.facts, retention=source, retention_examples=len(kept))
    made = replace(data, retention=kept, facts=facts, notes=(*data.notes, *notes))
    return replace(made, facts=replace(facts, fingerprint=fingerprint(made)))


def _packed(data: PilotData) -> Iterator[bytes]:
    """Yield the tokens of each example of a packed row: its key is no longer there."""
    for row in data.train:
        start = 0
        for length in row.documents:
            yield array("i", row.input_ids[start : start + length]).tobytes()
            start += length
