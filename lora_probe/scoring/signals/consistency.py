"""Signal 3: how far the gradients of micro-batches agree.

``SNR = ||mean g||^2 / (mean ||g||^2 - ||mean g||^2)`` with g = dL/dB of each.

``energy * SNR / (1 + SNR)`` with energy = mean ||g||^2 is nothing but ``||mean g||^2``: what is left of the
energy once micro-batches pull against each other. It is kept in this form, which also holds where the SNR is
infinite. Of k gradients of pure noise, about 1/k is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Moments"]


class Moments:
    """The mean and the mean square of one module's gradients."""

    def __init__(self) -> None:
        self._count = 0
        self._squares = 0.0
        self._sum: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        """Take dL/dB of one micro-batch."""
        self._count += 1
        self._squares += float(gradient.double().square().sum())
        self._sum = gradient.clone() if self._sum is None else self._sum.add_(gradient)

    @property
    def energy(self) -> float:
        """``mean ||g||^2``."""
        return self._squares / self._count if self._count else 0.0

    @property
    def consistent_energy(self) -> float | None:
        """``||mean g||^2``; None below two micro-batches, which is too few to agree."""
        if self._sum is None or self._count < 2:  # noqa: PLR2004 - it takes two
            return None
        return min(float((self._sum.double() / self._count).square().sum()), self.energy)
