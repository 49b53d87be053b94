"""What one module says about the weights that it holds itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.graph import Adaptable, Kind

__all__ = ["IN_OUT", "OUT_IN", "Layout", "Weight"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """A weight y = W x of one module, before its place in the model is known.

    Sizes are logical: of the matrix that is multiplied, not of the packed tensor that stores it.
    """

    name: str
    """The weight's own name in its module."""
    kind: Kind
    in_features: int
    out_features: int
    experts: int = 1
    groups: int = 1
    adaptable: Adaptable | None
    bias: str | None = None
    """Own name of the bias that is added to this product."""
    stored: tuple[str, ...] = ()
    """Own names of the tensors that hold a packed weight (values, scales, zero points, …); empty where `name`
    is the one tensor."""
    stored_bytes: int | None = None
    """Bytes of those tensors."""

    @property
    def elements(self) -> int:
        """Elements of the weight, without its bias."""
        return self.in_features * self.out_features * self.experts


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which dimensions of a parameter its product sums over and which it leaves, counted from the last."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def sizes(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return (in_features, out_features, experts) of a parameter; dimensions not named are experts."""
        sizes = [1, 1, 1]
        for dimension, size in enumerate(shape, start=-len(shape)):
            sizes[0 if dimension in self.inputs else 1 if dimension in self.outputs else 2] *= size
        return sizes[0], sizes[1], sizes[2]


OUT_IN = Layout(inputs=(-1,), outputs=(-2,))
"""As ``F.linear(x, w)`` reads it: (…, out_features, in_features)."""
IN_OUT = Layout(inputs=(-2,), outputs=(-1,))
"""As ``x @ w`` reads it: (…, in_features, out_features)."""
