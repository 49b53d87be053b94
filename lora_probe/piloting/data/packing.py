"""Several examples to a row, each whole: best-fit decreasing, as TRL's default packing."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from lora_probe.piloting.data.examples import IGNORED, Example

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["pack"]


def pack(examples: Iterable[Example], *, length: int) -> tuple[Example, ...]:
    """Return rows of at most `length` tokens, each of whole examples that are no longer themselves.

    The longest examples are placed first, each into the row that it fills best (Ding et al., "Fewer
    Truncations Improve Language Modeling"). The first token of each example carries no label: what stands
    before it belongs to another. Depends on the examples only, not on their order.
    """
    bins: list[list[Example]] = []
    space: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for example in sorted(examples, key=lambda each: (-len(each.input_ids), each.key)):
        needed = len(example.input_ids)
        at = bisect_left(space, (needed, 0))
        if at < len(space):
            left, row = space.pop(at)
        else:
            left, row = length, len(bins)
            bins.append([])
        bins[row].append(example)
        insort(space, (left - needed, row))
    return tuple(sorted((_row(each) for each in bins), key=lambda row: row.key))


def _row(examples: Sequence[Example]) -> Example:
    ids, labels = array("i"), array("i")
    for example in examples:
        ids += example.input_ids
        labels += array("i", [IGNORED, *example.labels[1:]])
    key = hashlib.sha256("".join(example.key for example in examples).encode()).hexdigest()
    documents = tuple(len(example.input_ids) for example in examples)
    return Example(key=key, input_ids=ids, labels=labels, documents=documents)
