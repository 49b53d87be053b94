"""Tensors for one step, or for one pass over a part: pure functions, so resuming needs no iterator state."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lora_probe.piloting.data.examples import IGNORED, Example, PilotData
from lora_probe.piloting.data.masking import masked
from lora_probe.piloting.records import Task

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

    import torch

    from lora_probe.piloting.records import Split, Training

__all__ = ["Batch", "batches", "evaluation_batches"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Some rows as tensors on the CPU, padded on the right.

    `inputs` holds ``input_ids`` (B, T) and ``attention_mask`` (B, T), with ``token_type_ids`` (B, T) where
    the tokenizer makes them. Packed rows come with ``position_ids`` (B, T) that start anew with each example,
    and without a mask: transformers reads the borders off the positions only where no mask is given and no
    cache is used (``use_cache=False``). For sequence-to-sequence, decoder inputs are left to the model's own
    ``prepare_decoder_input_ids_from_labels``.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    """Int64, not shifted: (B, T) with -100 where no loss is taken; (B, targets) for sequence-to-sequence;
    (B,) for sequence classification."""
    items: tuple[int, ...]
    """Which example of its part (of `PilotData.part`) each row is."""


def batches(data: PilotData, training: Training, *, step: int) -> tuple[Batch, ...]:
    """Return the micro-batches of one optimizer step (counted from 0), `training.accumulation` of them.

    Each epoch has its own order, drawn from (`training.data_seed`, epoch); a batch may reach over the end of
    one. The same for all trials, whatever was asked for before.
    """
    size, total = training.batch_size, len(data.train)
    first = step * training.accumulation * size
    found = []
    for start in range(first, first + training.accumulation * size, size):
        places = range(start, start + size)
        items = tuple(_order(total, training.data_seed, at // total)[at % total] for at in places)
        rows = [data.train[item] for item in items]
        if data.masking is not None:
            seeds = (f"{training.data_seed}:{at}" for at in places)
            rows = [masked(row, data.masking, seed=seed) for row, seed in zip(rows, seeds, strict=True)]
        found.append(_batch(data, rows, items))
    return tuple(found)


def evaluation_batches(data: PilotData, split: Split, *, batch_size: int) -> Iterator[Batch]:
    """Yield all of one part, similar lengths together, longest first; `Batch.items` say which is which.

    The longest come first so that a batch that does not fit into memory shows at once.
    """
    examples = data.part(split)
    order = sorted(range(len(examples)), key=lambda item: (-len(examples[item].input_ids), item))
    for start in range(0, len(order), batch_size):
        items = tuple(order[start : start + batch_size])
        yield _batch(data, [examples[item] for item in items], items)


@lru_cache(maxsize=4)
def _order(total: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(total))
    # Seeding with a string goes through SHA-512: equal in every process and on every platform.
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311 - an order of data, no secret
    return tuple(order)


def _batch(data: PilotData, rows: Sequence[Example], items: tuple[int, ...]) -> Batch:
    import torch

    width = max(len(row.input_ids) for row in rows)
    inputs = {"input_ids": _padded([row.input_ids for row in rows], width, data.pad_token_id)}
    if rows[0].documents:
        inputs["position_ids"] = torch.tensor([_positions(row.documents, width) for row in rows])
    else:
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        inputs["attention_mask"] = (torch.arange(width) < lengths[:, None]).long()  # (B, T)
    types = [row.token_type_ids for row in rows if row.token_type_ids is not None]
    if len(types) == len(rows):
        inputs["token_type_ids"] = _padded(types, width, 0)
    if data.facts.task is Task.SEQUENCE_CLASSIFICATION:
        labels = torch.tensor([row.labels[0] for row in rows])  # (B,)
    else:
        targets = max(len(row.labels) for row in rows) if data.facts.task is Task.SEQ2SEQ else width
        labels = _padded([row.labels for row in rows], targets, IGNORED)
    return Batch(inputs=inputs, labels=labels, items=items)


def _padded(rows: Sequence[array[int]], width: int, filler: int) -> torch.Tensor:
    """Return `rows` as one tensor (B, `width`) of int64, filled on the right."""
    import torch

    tensor = torch.full((len(rows), width), filler, dtype=torch.int64)
    for row, values in enumerate(rows):
        tensor[row, : len(values)] = torch.tensor(values)
    return tensor


def _positions(documents: tuple[int, ...], width: int) -> list[int]:
    """Return positions that start at 0 in each document; what pads counts as one more document."""
    lengths = (*documents, width - sum(documents))
    return [position for length in lengths for position in range(length)]
