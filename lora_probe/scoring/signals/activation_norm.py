"""Signal 1: the normalized feature norm (NFN) of PLoP, arXiv 2506.20629. It needs forward passes only.

``NFN_m = mean_t(||W_m z_t|| / ||z_t||) * sqrt(d_in) / ||W_m||_F`` over inputs z_t, padding left out: how far
a layer's own inputs lie along its strong directions. It is 1 for inputs of random direction; the lower it is,
the less the layer has been fitted to such data, and the sooner it is to be adapted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FeatureNorm", "frobenius_norm"]

_CHUNK = 512
"""Unit vectors that go through a quantized layer at once."""


class FeatureNorm:
    """Collects the tokens of one module, over all of its calls."""

    def __init__(self) -> None:
        self.tokens = 0
        self.padding_masked = True
        self._total = 0.0

    def add(self, x: Tensor, y: Tensor, bias: Tensor | None, kept: Tensor | None) -> None:
        """Take one call's input (…, in), output (…, out) and bias (out,); `kept` (…) is False for padding.

        None for `kept` says that padding cannot be told apart.
        """
        self.padding_masked &= kept is not None
        if kept is not None:
            x, y = x[kept], y[kept]  # (tokens, in), (tokens, out)
        plain = y.float() if bias is None else y.float() - bias.float()
        into, out = x.float().norm(dim=-1), plain.norm(dim=-1)
        seen = into > 0
        self._total += float((out[seen] / into[seen]).double().sum())
        self.tokens += int(seen.sum())

    def value(self, in_features: int, weight_norm: float) -> float | None:
        """Return the NFN; None without any token, and for a weight of zeros."""
        if not self.tokens or not weight_norm:
            return None
        return self._total / self.tokens * math.sqrt(in_features) / weight_norm


def frobenius_norm(module: nn.Module, in_features: int, dtype: torch.dtype) -> float:
    """Return ``||W||_F`` of a linear layer whose inputs are of `dtype`.

    Where the weight is packed, the layer itself is asked, with one unit vector for each column of W.
    """
    weight: Any = getattr(module, "weight", None)
    packed = not (
        isinstance(weight, torch.Tensor) and weight.is_floating_point() and weight.element_size() > 1
    )
    if not packed:
        return float(weight.detach().float().norm())
    bias: Any = getattr(module, "bias", None)
    device = next(iter([*module.parameters(), *module.buffers()])).device
    total = 0.0
    for start in range(0, in_features, _CHUNK):
        size = min(_CHUNK, in_features - start)
        units = torch.zeros(size, in_features, device=device, dtype=dtype)
        units[torch.arange(size), torch.arange(start, start + size)] = 1
        columns = module(units).float()  # (size, out)
        if bias is not None:
            columns = columns - bias.float()
        total += float(columns.double().square().sum())
    return math.sqrt(total)
