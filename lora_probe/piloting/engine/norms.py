"""Frozen RMS norms in a third of the operations: a norm that does not learn needs no gradient of its own.

What memory gives is the limit of a small model on a CPU, and composed of single operations such a norm reads
and writes its rows a dozen times a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["frozen_norm", "plain_norms"]


def plain_norms(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules that compute ``x / sqrt(mean(x²) + ε) · weight`` in float32, and nothing else.

    A class is taken by its name, and its word by trying it: variants that shift or gate differ.
    """
    return tuple(module for module in model.modules() if _is_plain(module))


def frozen_norm(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands in for the `forward` of one of `plain_norms`.

    That one still takes all that has not been tried out: other dtypes, and further arguments such as gates.
    """
    weight, epsilon = module.weight, _epsilon(module)

    def norm(*arguments: Any, **named: Any) -> Any:
        if named or len(arguments) != 1 or arguments[0].dtype is not torch.float32:
            return forward(*arguments, **named)
        normed: Tensor = _FrozenNorm.apply(arguments[0], weight, epsilon)  # type: ignore[no-untyped-call]
        return normed

    return norm


class _FrozenNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Return the norm of each row of `x` (…, features)."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        factor = squares.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        normed: Tensor = x * factor
        ctx.save_for_backward(normed, weight, factor)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normed, weight, factor = ctx.saved_tensors
        outer = gradients[0] * weight
        along = torch.linalg.vecdot(outer, normed).unsqueeze(-1) / normed.shape[-1]
        return outer.addcmul_(normed, along, value=-1).mul_(factor), None, None


def _epsilon(module: nn.Module) -> Any:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def _is_plain(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor) or weight.dim() != 1:
        return False
    if weight.dtype is not torch.float32 or weight.is_meta or not isinstance(_epsilon(module), float):
        return False
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, len(weight), generator=generator).to(weight.device)
    rows[0] *= _epsilon(module) ** 0.5  # where epsilon counts
    with torch.no_grad():
        try:
            expected: Any = module.forward(rows)  # its hooks stay what they are, and are not ours to call
        except Exception:  # noqa: BLE001 - one that wants more than rows may raise anything
            return False
        ours = frozen_norm(module, module.forward)(rows)
    return isinstance(expected, Tensor) and torch.allclose(expected, ours, rtol=1e-5, atol=1e-6)
