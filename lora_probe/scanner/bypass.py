"""Which children a module never calls, or not always, because its code reads their weights itself.

An adapter lives in the call of the module that it wraps. Where code hands ``self.out_proj.weight`` to a fused
kernel or multiplies by it, the adapter is passed over and learns nothing. The code says so, and is only read.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, cast

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bypassed_children"]

_PREPARING = (
    "__init__", "_init", "init_", "reset_", "_reset", "resize_", "_resize", "tie_", "_tie", "extra_repr",
)  # fmt: skip
"""Beginnings of the names of methods that run before training or never, and may touch weights."""
_FACTS = frozenset(
    {
        "data", "device", "dim", "dtype", "element_size", "is_cuda", "is_meta", "ndim", "numel",
        "requires_grad", "shape", "size",
    }
)  # fmt: skip
"""Attributes of a weight that do not read its values; `data` is how code edits it in place."""
_LIKE = frozenset({"isinstance", "to", "type_as", "hasattr"})
"""Functions that look only at the type or place of the tensor they are given."""


def bypassed_children(module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the children that `module` never calls but reads, and may read in training.

    The second are called, too, and are read under no condition or one on ``self.training`` (a fused kernel);
    readings under other conditions are passed over. Both are empty where the source cannot be read.
    `nn.MultiheadAttention` reads its `out_proj`, always.
    """
    if isinstance(module, nn.MultiheadAttention):
        return ("out_proj",), ()
    children = frozenset(name for name, child in module._modules.items() if child is not None)  # noqa: SLF001
    return _in_class(cast("Any", type(module)), children) if children else ((), ())


@lru_cache(maxsize=4096)
def _in_class(module_class: Any, children: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    read: set[str] = set()
    trained: set[str] = set()
    called: set[str] = set()
    for function in _methods(module_class):
        names = _names(function.__code__)
        touched = children & names
        if not touched:
            continue
        if "weight" not in names:
            called |= touched
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError):
            continue
        for use in _uses(tree):
            if use.name in children:
                (read if use.reads else called).add(use.name)
                if use.reads and use.in_training:
                    trained.add(use.name)
    return tuple(sorted(read - called)), tuple(sorted(trained & called))


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of ``self.<child>``."""

    name: str
    reads: bool
    """Whether its weight is read; else it is called, or handed on to be called."""
    in_training: bool = True
    """Whether nothing but ``self.training`` decides that this happens."""


def _uses(tree: ast.AST) -> Iterator[_Use]:
    """Yield each use of a child."""
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        ):
            continue
        outer = parents.get(node)
        if not isinstance(outer, ast.Attribute):
            if isinstance(node.ctx, ast.Load) and not isinstance(outer, (ast.Compare, ast.BoolOp, ast.If)):
                yield _Use(node.attr, reads=False)
        elif outer.attr == "weight" and isinstance(outer.ctx, ast.Load) and not _is_fact(outer, parents):
            yield _Use(node.attr, reads=True, in_training=_in_training(node, parents))
        elif outer.attr in {"forward", "__call__"}:
            yield _Use(node.attr, reads=False)


def _in_training(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Tell whether training meets `node` as a rule: under no condition, or one that asks for training.

    The other branch of ``hasattr`` counts, too: what is asked for so is there in special cases only.
    """
    while (outer := parents.get(node)) is not None:
        if isinstance(outer, (ast.If, ast.IfExp)) and node is not outer.test:
            asked = {each.attr for each in ast.walk(outer.test) if isinstance(each, ast.Attribute)}
            special = isinstance(outer.test, ast.Call) and getattr(outer.test.func, "id", "") == "hasattr"
            in_body = outer.body is node or (isinstance(outer.body, list) and node in outer.body)
            if "training" not in asked and (in_body or not special):
                return False
        node = outer
    return True


def _is_fact(weight: ast.Attribute, parents: dict[ast.AST, ast.AST]) -> bool:
    """Tell whether the expression asks something about the weight without reading its values."""
    outer = parents.get(weight)
    if isinstance(outer, ast.Attribute):
        return outer.attr in _FACTS
    if isinstance(outer, ast.Compare):  # ``is None``
        return True
    if isinstance(outer, ast.Call) and weight in outer.args:
        function = outer.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return name in _LIKE
    return False


def _methods(module_class: type) -> Iterator[FunctionType]:
    """Yield the functions that run in a forward pass, without their decorators, as the class sees them."""
    seen: set[str] = set()
    for base in module_class.__mro__:
        if base.__module__.partition(".")[0] in {"builtins", "torch"}:
            continue
        for name, value in vars(base).items():
            function = inspect.unwrap(value) if callable(value) else None
            if isinstance(function, FunctionType) and name not in seen and not name.startswith(_PREPARING):
                yield function
            seen.add(name)


def _names(code: CodeType) -> frozenset[str]:
    """Return the attribute and global names of `code` and of what is nested in it."""
    nested = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*nested)
