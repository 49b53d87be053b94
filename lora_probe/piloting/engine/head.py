"""Losses of labelled positions only: what is not labelled never meets the output embedding."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_probe.piloting.engine.loss import piecewise_losses, token_hits, token_losses

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from torch import Tensor

__all__ = ["HeadUse", "OutputHead", "head_use"]

_CLOSE = {True: 1e-3, False: 0.02}
"""Fewer rows may change the rounding by this much, in float32 and in half precision, and nothing else."""


class HeadUse(Enum):
    """How much of the logits of a batch is computed at a time, least first."""

    PIECES = "the labelled positions, some at a time"
    """Only where the head is a plain linear layer, and its output the model's logits: they are never kept."""
    LABELLED = "the labelled positions"
    """A hook before the head picks their rows. What a model does to logits afterwards (scaling, capping) is
    done element by element and goes on unchanged."""
    EVERYTHING = "all positions"
    """For a model without an output embedding, or with logits of another shape."""


class OutputHead:
    """The output embedding of a model, hooked between `install` and `remove`."""

    def __init__(self, model: nn.Module, use: HeadUse) -> None:
        self.use = use
        self._model = model
        self._module = _output_embedding(model)
        self._hook: Any = None
        self._rows: Tensor | None = None
        self._positions = 0
        self._hidden: Tensor | None = None

    def install(self) -> None:
        """Set the hook."""
        if self._module is not None and self.use is not HeadUse.EVERYTHING:
            self._hook = self._module.register_forward_pre_hook(self._pick)

    def remove(self) -> None:
        """Take the hook away."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def losses(
        self, inputs: Mapping[str, Any], rows: Tensor, positions: int, targets: Tensor, *, hits: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run the model; return the nats of N `rows` out of all `positions` of the batch: (N,), float32.

        `targets` (N,) are what should have been predicted there. With them, where `hits` are asked for,
        comes whether the likeliest prediction is right: (N,), bool.
        """
        logits = self.logits(inputs, rows, positions)
        if self._hidden is not None:
            (hidden, self._hidden), head = (self._hidden, None), self._module
            assert isinstance(head, nn.Linear)  # noqa: S101 - what `head_use` found out
            hidden, targets = hidden.to(head.weight.device), targets.to(head.weight.device)
            return piecewise_losses(hidden, head.weight, head.bias, targets, hits=hits)
        targets = targets.to(logits.device)
        return token_losses(logits, targets), token_hits(logits, targets) if hits else None

    def logits(self, inputs: Mapping[str, Any], rows: Tensor, positions: int) -> Tensor:
        """Return the logits (N, V) of the rows; none at all where the hook has kept what they are made of."""
        self._rows, self._positions, self._hidden = rows, positions, None
        try:
            logits: Tensor = self._model(**inputs).logits
        finally:
            self._rows = None
        logits = _flat(logits)
        if self._hidden is not None or len(logits) == len(rows):  # picked, or all of them labelled
            return logits
        return logits[rows.to(logits.device)]

    def _pick(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._rows is None or not arguments:
            return None
        hidden: Tensor = arguments[0]
        flat = _flat(hidden)
        if len(flat) != self._positions:
            return None
        picked = flat[self._rows.to(flat.device)]
        if self.use is HeadUse.PIECES:
            self._hidden, picked = picked, picked[:0]
        return (picked[None], *arguments[1:])


def head_use(
    model: nn.Module, inputs: Mapping[str, Any], rows: Tensor, positions: int, *, adapted: Container[str] = ()
) -> HeadUse:
    """Return the least that gives the very losses of the whole model for `rows` of a batch.

    A head that is `adapted`, by path, is left to compute its output itself. Every other row is tried: what
    a model does with all of them together would not show in all of them. Without any, nothing is known.
    """
    rows = rows[::2]
    if not len(rows):
        return HeadUse.EVERYTHING
    with torch.no_grad():
        everything, output = _with_output(model, inputs, rows, positions)
        with _hooked(OutputHead(model, HeadUse.LABELLED)) as head:
            labelled = head.logits(inputs, rows, positions)
        if not _close(labelled, everything):
            return HeadUse.EVERYTHING
        if output is None or not torch.equal(output, everything) or not _is_plain(model, adapted):
            return HeadUse.LABELLED
        targets = torch.zeros_like(rows)
        with _hooked(OutputHead(model, HeadUse.PIECES)) as head:
            try:
                losses, _ = head.losses(inputs, rows, positions, targets, hits=False)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # noqa: BLE001 - no more is known of a model that does not bear a head without rows
                return HeadUse.LABELLED
        same = _close(losses, token_losses(everything, targets.to(everything.device)))
    return HeadUse.PIECES if same else HeadUse.LABELLED


def _with_output(
    model: nn.Module, inputs: Mapping[str, Any], rows: Tensor, positions: int
) -> tuple[Tensor, Tensor | None]:
    """Return the logits of `rows`, and what the head itself had put out there; None without a head."""
    module, given = _output_embedding(model), []
    if module is None:
        return OutputHead(model, HeadUse.EVERYTHING).logits(inputs, rows, positions), None
    hook = module.register_forward_hook(lambda _, __, output: given.append(_flat(output)))
    try:
        logits = OutputHead(model, HeadUse.EVERYTHING).logits(inputs, rows, positions)
    finally:
        hook.remove()
    if len(given) != 1 or len(given[0]) != positions:
        return logits, None
    return logits, given[0][rows.to(given[0].device)]


def _is_plain(model: nn.Module, adapted: Container[str]) -> bool:
    """Tell whether the head is a linear layer that nothing adapts, quantizes or keeps elsewhere."""
    head = _output_embedding(model)
    if type(head) is not nn.Linear or head.weight.is_meta:
        return False
    return not any(module is head and path in adapted for path, module in model.named_modules())


@contextmanager
def _hooked(head: OutputHead) -> Iterator[OutputHead]:
    head.install()
    try:
        yield head
    finally:
        head.remove()


def _output_embedding(model: nn.Module) -> nn.Module | None:
    find: Any = getattr(model, "get_output_embeddings", None)
    found: nn.Module | None = find() if find is not None else None
    return found


def _close(one: Tensor, other: Tensor) -> bool:
    bound = _CLOSE[other.dtype is torch.float32]
    return one.shape == other.shape and torch.allclose(one, other, rtol=bound, atol=bound)


def _flat(rows: Tensor) -> Tensor:
    return rows.reshape(-1, rows.shape[-1])
