"""Signal 2: the energy ``||dL/dB||^2`` of LoRA's first gradient, with LoRA everywhere at PEFT's init.

At B = 0 the model is the base, so that nothing has to be wrapped: ``dL/dB = s (dL/dy)^T (x A^T)`` needs the
layer's input and the gradient of its output, and never a gradient of a whole weight. That works on frozen and
quantized bases alike. Over draws of A, whose elements have the variance 1/(3 d_in),
``E ||dL/dB||^2 = s^2 r ||dL/dW||^2 / (3 d_in)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FactorGradient"]


class FactorGradient:
    """Collects dL/dB of one module over all calls of one micro-batch."""

    def __init__(self, a: Tensor, out_features: int, scale: float) -> None:
        """Take `a`, (rank, in_features) in float32, as PEFT starts it; `scale` is alpha / rank."""
        self._a, self._scale = a, scale
        self._sum = torch.zeros(out_features, a.shape[0], device=a.device)

    def tap(self, x: Tensor, y: Tensor, trigger: Tensor) -> Tensor:
        """Return the layer's output `y`, (…, out), whose gradient will be noted; `x` is its input (…, in).

        `trigger` is a zero that requires a gradient: below the first tapped layer, nothing else does.
        """
        low = (x.detach().float() @ self._a.T).reshape(-1, len(self._a))  # (N, rank)
        if not y.requires_grad:
            y = y + trigger

        def note(gradient: Tensor) -> None:
            flat = gradient.float().reshape(-1, gradient.shape[-1])  # (N, out)
            self._sum += flat.T @ low

        y.register_hook(note)  # type: ignore[no-untyped-call]
        return y

    def take(self) -> Tensor:
        """Return dL/dB, (out_features, rank), and start again from zero."""
        gradient = self._sum * self._scale
        self._sum.zero_()
        return gradient
