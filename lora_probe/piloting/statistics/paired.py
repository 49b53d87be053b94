"""The difference of two runs on the same items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import DifferentItems

if TYPE_CHECKING:
    from lora_probe.piloting.records import Evaluated

__all__ = ["paired_difference"]


def paired_difference(first: Evaluated, second: Evaluated) -> tuple[float, float]:
    """Return how many nats per token `first` loses more than `second`, and the standard error over the items.

    The difference is a ratio: summed nats over summed tokens. Its error is that of the usual linearisation,
    ``sqrt(sum(e**2) n/(n-1)) / tokens`` with ``e = d - difference * tokens`` (Cochran, *Sampling Techniques*,
    1977, 2.11). It is infinite for a single item. Raises DifferentItems where they are not the same.
    """
    if first.tokens != second.tokens:
        raise DifferentItems(arms=(first.trial.id, second.trial.id))
    tokens = max(1, sum(first.tokens))
    items = len(first.tokens)
    gaps = [ours - theirs for ours, theirs in zip(first.nll, second.nll, strict=True)]
    difference = sum(gaps) / tokens
    if items < 2:  # noqa: PLR2004 - one value has no spread
        return difference, math.inf
    squares = sum((gap - difference * size) ** 2 for gap, size in zip(gaps, first.tokens, strict=True))
    return difference, math.sqrt(squares * items / (items - 1)) / tokens
