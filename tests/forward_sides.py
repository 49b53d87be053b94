"""The sides of a module's matrices as its forward pass uses them: what meets the input, what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from torch import nn

__all__ = ["Tiny", "sides_in_forward"]

_LEFT_RIGHT = {"matmul", "__matmul__", "mm", "bmm"}


class Tiny:
    """A config that answers for every field by its name, with sizes that cannot be confused."""

    HIDDEN, INTERMEDIATE, EXPERTS, CHOSEN = 24, 40, 4, 2
    _experts_implementation = "eager"

    def __getattr__(self, name: str) -> Any:
        """Return a small value that suits a field of this name."""
        for words, value in (
            (("per_tok", "top_k", "topk", "shared_experts"), self.CHOSEN),
            (("expert",), self.EXPERTS),
            (("limit", "alpha", "softcap"), 7.0),
            (("intermediate", "ffn"), self.INTERMEDIATE),
            (("hidden_size", "hidden_dim"), self.HIDDEN),
            (("eps",), 1e-6),
            (("act",), "silu"),
            (("latent", "bias"), None),
        ):
            if not name.startswith("_") and any(word in name for word in words):
                return value
        raise AttributeError(name)


def sides_in_forward(module: nn.Module, *inputs: Any) -> dict[str, tuple[int, int]]:
    """Return (in_features, out_features) of each own parameter that a forward pass multiplies by.

    Recorded are the products themselves: the last dimension of what a slice of the parameter is multiplied
    with, and of what comes out.
    """
    with _Recorder(dict(module.named_parameters(recurse=False))) as recorder:
        module(*inputs)
    return recorder.sides


class _Recorder(TorchFunctionMode):
    """Notes the shapes that meet wherever one side of a product is a view of a parameter."""

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.sides: dict[str, tuple[int, int]] = {}
        self._kept: list[torch.Tensor] = []
        self._names = {each.untyped_storage().data_ptr(): name for name, each in parameters.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func` and record it where it is a product with a parameter."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "linear":
            weight = args[1] if len(args) > 1 else (kwargs or {})["weight"]
            self._note(weight, args[0].shape[-1], result.shape[-1])
        elif name in _LEFT_RIGHT:
            self._product(args[0], args[1], result)
        elif name == "baddbmm":
            self._product(args[1], args[2], result)
        elif name == "__getitem__":
            self._follow(args[0], result)
        elif name == "einsum":
            self._einsum(args[0], args[1:] if len(args) > 2 else args[1], result)
        return result

    def _follow(self, source: torch.Tensor, chosen: torch.Tensor) -> None:
        """Know what was chosen from a parameter by index, which is a copy, as that parameter."""
        name = self._names.get(source.untyped_storage().data_ptr())
        if name is not None:
            self._names[chosen.untyped_storage().data_ptr()] = name
            self._kept.append(chosen)

    def _product(self, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor) -> None:
        self._note(right, left.shape[-1], result.shape[-1])
        self._note(left, right.shape[-2], result.shape[-2])

    def _einsum(self, equation: str, operands: Iterable[torch.Tensor], result: torch.Tensor) -> None:
        terms, _, output = equation.replace(" ", "").partition("->")
        sizes = {}
        for term, operand in zip(terms.split(","), operands, strict=True):
            sizes.update(zip(term, operand.shape, strict=True))
        sizes.update(zip(output, result.shape, strict=True))
        for term, operand in zip(terms.split(","), operands, strict=True):
            inner = [sizes[letter] for letter in term if letter not in output]
            outer = [sizes[letter] for letter in term if letter in output]
            self._note(operand, _product_of(inner), _product_of(outer))

    def _note(self, operand: torch.Tensor, in_features: int, out_features: int) -> None:
        name = self._names.get(operand.untyped_storage().data_ptr())
        if name is not None:
            self.sides.setdefault(name, (in_features, out_features))


def _product_of(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
