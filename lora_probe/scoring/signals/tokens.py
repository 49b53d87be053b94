"""Which rows of a layer's input are tokens, and which are padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.records import Task

if TYPE_CHECKING:
    from torch import Tensor

    from lora_probe.graph import Site
    from lora_probe.piloting.data import Batch

__all__ = ["Tokens"]

_FROM_ENCODER = frozenset({"k", "v", "kv"})
"""Parts of a decoder's cross-attention that read the encoder's states."""


class Tokens:
    """The tokens of one micro-batch: of the one sequence, or of encoder and decoder."""

    def __init__(self, batch: Batch, task: Task) -> None:
        shape = batch.inputs["input_ids"].shape
        mask = batch.inputs.get("attention_mask")
        self._own = mask.bool() if mask is not None else torch.ones(shape, dtype=torch.bool)  # (B, T)
        self._decoder = batch.labels != IGNORED if task is Task.SEQ2SEQ else None  # (B, targets)

    def kept(self, site: Site, x: Tensor) -> Tensor | None:
        """Return True for each token of the input `x` (…, in) of a layer: of the shape of x without `in`.

        None where the rows are in no known order, as of experts to which only some tokens go, and where there
        is padding among them.
        """
        rows = x.shape[:-1]
        for mask in self._masks(site):
            if found := _arranged(mask, rows):
                return found[0].to(x.device)
        whole = len(self._own)
        padded = any(not bool(mask.all()) for mask in self._masks(site))
        if rows.numel() == whole or not padded:  # one row for each sequence, as a pooler gets them
            return torch.ones(rows, dtype=torch.bool, device=x.device)
        return None

    def _masks(self, site: Site) -> tuple[Tensor, ...]:
        """Return the masks that may fit the site's input, the likelier first: two may have one shape."""
        if self._decoder is None:
            return (self._own,)
        crosses = site.block == "cross_attention" and site.part in _FROM_ENCODER
        in_decoder = site.tower == "decoder" and not crosses
        return (self._decoder, self._own) if in_decoder else (self._own, self._decoder)


def _arranged(mask: Tensor, rows: torch.Size) -> tuple[Tensor, ...]:
    """Return `mask` (B, T) in the shape `rows`, where that is a usual arrangement; else nothing."""
    batch, length = mask.shape
    known = ((batch, length), (batch, 1, length), (batch, length, 1), (batch * length,), (1, batch * length))
    if rows in known:
        return (mask.reshape(rows),)
    return (mask.T,) if rows == (length, batch) else ()
