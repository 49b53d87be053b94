"""How a module's own code multiplies by a bare parameter, read from its source.

A bare ``nn.Parameter`` does not say whether it is a projection, or which of its dimensions meets the input:
some are stored as (out, in) for ``F.linear(x, w)``, some as (in, out) for ``x @ w``, some as one matrix for
each expert or head. The code that uses it does say, so it is read (never run) where no attribute declares it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from lora_probe.scanner.weights import IN_OUT, OUT_IN, Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["is_read_by", "layout_in_source"]

_PRODUCTS = frozenset({"matmul", "mm", "bmm", "grouped_mm", "_grouped_mm"})
_TRANSPOSES = frozenset({"t", "transpose", "swapaxes", "permute"})
_SAME_MATRIX = frozenset({"to", "type", "type_as", "float", "half", "bfloat16", "contiguous", "unsqueeze"})


@lru_cache(maxsize=1024)
def layout_in_source(module_class: type, parameter: str) -> Layout | None:
    """Return the layout under which the methods of `module_class` multiply by ``self.<parameter>``.

    Understood are `F.linear`, ``@``, matmul, mm, bmm, grouped_mm, addmm, baddbmm and einsum, through casts,
    subscripts, transpositions and one local name. None where no method has such a product of it, or where the
    source cannot be read.
    """
    layouts: list[Layout] = []
    for function in _methods(module_class):
        if parameter not in _names(function.__code__):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError):
            continue
        layouts.extend(_Reader(parameter, tree).layouts())
    # Code may also multiply head by head; the product over all heads at once says what the matrix is.
    return max(layouts, key=lambda layout: len(layout.inputs) + len(layout.outputs), default=None)


@lru_cache(maxsize=1024)
def is_read_by(module_class: type, parameter: str) -> bool:
    """Return whether a method of `module_class` reads ``self.<parameter>``, and not only code around it."""
    return any(parameter in _names(function.__code__) for function in _methods(module_class))


def _methods(module_class: type) -> Iterator[FunctionType]:
    """Yield the functions that a class and its bases outside of torch define, without their decorators."""
    for base in module_class.__mro__:
        if base.__module__.partition(".")[0] in {"builtins", "torch"}:
            continue
        for value in vars(base).values():
            function = inspect.unwrap(value) if callable(value) else None
            if isinstance(function, FunctionType) and function.__name__ != "__init__":
                yield function


def _names(code: CodeType) -> set[str]:
    """Return the attribute and global names of `code` and of what is nested in it."""
    nested = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*nested)


class _Reader:
    """Finds the products of one parameter in the syntax tree of one function."""

    def __init__(self, parameter: str, tree: ast.AST) -> None:
        self._parameter = parameter
        self._nodes = list(ast.walk(tree))
        self._aliases: dict[str, bool] = {}
        for node in self._nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                transposed = self._transposed(node.value)
                if transposed is not None:
                    self._aliases[node.targets[0].id] = transposed

    def layouts(self) -> Iterator[Layout]:
        """Yield the layout in each product that is understood."""
        for node in self._nodes:
            layout = None
            match node:
                case ast.BinOp(op=ast.MatMult(), left=left, right=right):
                    layout = self._product(left, right)
                case ast.Call(func=ast.Attribute(attr="linear"), args=[_, weight, *_]):
                    layout = self._oriented(weight, OUT_IN)
                case ast.Call(func=ast.Attribute(attr="linear"), keywords=keywords):
                    layout = self._linear_by_keyword(keywords)
                case ast.Call(func=ast.Attribute(attr="addmm" | "baddbmm"), args=[_, left, right, *_]):
                    layout = self._product(left, right)
                case ast.Call(func=ast.Attribute(attr=name), args=[left, right, *_]) if name in _PRODUCTS:
                    layout = self._product(left, right)
                case ast.Call(func=ast.Attribute(attr=name, value=left), args=[right]) if name in _PRODUCTS:
                    layout = self._product(left, right)
                case ast.Call(
                    func=ast.Attribute(attr="einsum"), args=[ast.Constant(value=str(terms)), *operands]
                ):
                    layout = self._einsum(terms, operands)
            if layout:
                yield layout

    def _linear_by_keyword(self, keywords: Sequence[ast.keyword]) -> Layout | None:
        weight = next((keyword.value for keyword in keywords if keyword.arg == "weight"), None)
        return self._oriented(weight, OUT_IN) if weight else None

    def _product(self, left: ast.expr, right: ast.expr) -> Layout | None:
        return self._oriented(right, IN_OUT) or self._oriented(left, OUT_IN)

    def _oriented(self, node: ast.expr, layout: Layout) -> Layout | None:
        transposed = self._transposed(node)
        if transposed is None:
            return None
        return Layout(inputs=layout.outputs, outputs=layout.inputs) if transposed else layout

    def _einsum(self, equation: str, operands: Sequence[ast.expr]) -> Layout | None:
        terms, arrow, result = equation.replace(" ", "").replace(".", "").partition("->")
        letters = terms.split(",")
        if not arrow or len(letters) != len(operands):
            return None
        for index, (term, operand) in enumerate(zip(letters, operands, strict=True)):
            if self._transposed(operand) is not False:
                continue
            others = "".join(letters[:index] + letters[index + 1 :])
            places = list(enumerate(term, start=-len(term)))
            return Layout(
                inputs=tuple(place for place, letter in places if letter not in result),
                outputs=tuple(place for place, letter in places if letter in result and letter not in others),
            )
        return None

    def _transposed(self, node: ast.expr) -> bool | None:
        """Return whether `node` is the parameter's transpose; None where it is not the parameter at all."""
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name == self._parameter:
                return False
            case ast.Name(id=name):
                return self._aliases.get(name)
            case ast.Subscript(value=inner):
                flips = False
            case ast.Attribute(value=inner, attr="T" | "mT"):
                flips = True
            case ast.Call(func=ast.Attribute(value=inner, attr=method)) if (
                method in _SAME_MATRIX | _TRANSPOSES
            ):
                flips = method in _TRANSPOSES
            case _:
                return None
        transposed = self._transposed(inner)
        return None if transposed is None else transposed != flips
