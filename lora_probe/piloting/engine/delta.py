"""One frozen layer for a whole stack of trials, each with its own update on its own slice of the batch.

For the trials of a slice, ``y = x W^T + bias + scale (x A^T) B``, with A (rank, in) and B (rank, out) of each
trial. Forward and backward are written out: the frozen product runs once for all trials, the update is added
in place, and gradients of A and B are accumulated straight into the flat buffers; the frozen weight gets
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from lora_probe.piloting.engine.adapters import Slot

__all__ = ["StackedLinear"]


class StackedLinear(torch.autograd.Function):
    """The layer as a function of its input; everything else is frozen or gets its gradient in place."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any,
        x: Tensor,
        trigger: Tensor,  # noqa: ARG004 - what it requires is all that counts
        weight: Tensor,
        bias: Tensor | None,
        slot: Slot,
        trials: int,
        mask: Tensor | None,
    ) -> Tensor:
        """Return (…, out_features) for `x` (…, in_features), whose rows are `trials` equal runs, one a trial.

        `trigger` requires a gradient so that autograd comes by even where `x` does not. `weight` is (out,
        in); `mask` (slice, rows, in_features) is what dropout multiplies the input of the update with.
        """
        y = functional.linear(x, weight, bias)
        inputs = _slice(x, slot, trials)  # (slice, rows, in)
        if mask is not None:
            inputs = inputs * mask
        low = torch.bmm(inputs, slot.value.a.to(x.dtype).transpose(1, 2))  # (slice, rows, rank)
        low, alpha = _scaled(low, slot)
        _view(y, slot, trials).baddbmm_(low, slot.value.b.to(x.dtype), alpha=alpha)
        ctx.save_for_backward(x, low, weight, mask)
        ctx.slot, ctx.trials = slot, trials
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of `x`, and add those of A and B to the buffers."""
        x, low, weight, mask = ctx.saved_tensors
        slot, trials = ctx.slot, ctx.trials
        gradient = gradients[0].contiguous()
        outer = _slice(gradient, slot, trials)  # (slice, rows, out)
        low_gradient = torch.bmm(outer, slot.value.b.to(x.dtype).transpose(1, 2))  # (slice, rows, rank)
        low_gradient, alpha = _scaled(low_gradient, slot)
        inputs = _slice(x, slot, trials)
        if mask is not None:
            inputs = inputs * mask
        _accumulate(slot.gradient.b, low, outer, alpha)
        _accumulate(slot.gradient.a, low_gradient, inputs, alpha)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = gradient.reshape(-1, gradient.shape[-1]).mm(weight).view(x.shape)
            into = _view(x_gradient, slot, trials)
            a = slot.value.a.to(x.dtype)
            if mask is None:
                into.baddbmm_(low_gradient, a, alpha=alpha)
            else:
                into.add_(torch.bmm(low_gradient, a).mul_(mask), alpha=alpha)
        return x_gradient, None, None, None, None, None, None


def _slice(rows: Tensor, slot: Slot, trials: int) -> Tensor:
    """Return the rows of the slot's slice of trials: (…, features) -> (slice, rows of a trial, features)."""
    return rows.reshape(trials, -1, rows.shape[-1])[slot.start : slot.stop]


def _view(rows: Tensor, slot: Slot, trials: int) -> Tensor:
    """Return the same to be added to in place: never a copy, in which an update would be lost."""
    return rows.view(trials, -1, rows.shape[-1])[slot.start : slot.stop]


def _scaled(low: Tensor, slot: Slot) -> tuple[Tensor, float]:
    """Return what replaces `low` so that, times the number that comes with it, it is scaled once."""
    if isinstance(slot.scale, float):
        return low, slot.scale
    return low.mul_(slot.scale.to(low.dtype)), 1.0


def _accumulate(into: Tensor, low: Tensor, rows: Tensor, alpha: float) -> None:
    """Add alpha · lowᵀ rows, (slice, rank, features), in float32."""
    if rows.dtype is into.dtype:
        into.baddbmm_(low.transpose(1, 2), rows, alpha=alpha)
    else:
        into.add_(torch.bmm(low.transpose(1, 2), rows), alpha=alpha)
