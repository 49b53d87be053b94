"""Masks of a masked language model, keyed by what they must depend on and by nothing else."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.piloting.data.examples import IGNORED

if TYPE_CHECKING:
    from lora_probe.piloting.data.examples import Example, Masking

__all__ = ["masked"]

_HIDDEN, _RANDOM = 0.8, 0.9
"""Of the chosen tokens, 80% become the mask, 10% a random token, 10% stay: BERT's recipe."""


def masked(example: Example, masking: Masking, *, seed: str) -> Example:
    """Return `example` with a share of its tokens hidden, and labels on exactly those.

    `example.labels` hold the true token where one may be chosen and -100 elsewhere (special tokens). At least
    one token is chosen. Equal examples and seeds give equal masks in every process.
    """
    draw = random.Random(f"{example.key}:{seed}")  # noqa: S311 - a mask, no secret
    open_places = [place for place, label in enumerate(example.labels) if label != IGNORED]
    count = max(1, round(masking.share * len(open_places)))
    ids = array("i", example.input_ids)
    labels = array("i", [IGNORED]) * len(ids)
    for place in draw.sample(open_places, min(count, len(open_places))):
        labels[place] = example.labels[place]
        kind = draw.random()
        if kind < _HIDDEN:
            ids[place] = masking.mask_token_id
        elif kind < _RANDOM:
            ids[place] = draw.randrange(masking.vocabulary)
    return replace(example, input_ids=ids, labels=labels)
