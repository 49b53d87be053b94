"""What a model really does with its layers: one small forward tells, whatever the architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

__all__ = ["Observation", "observe", "probe_inputs"]

_TOKENS = 16
"""Length of the probe: enough to tell rows apart, short enough to cost nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observation:
    """One forward, seen from some of its modules."""

    called: tuple[str, ...]
    """Paths in the order in which they were entered, once for every call."""
    inputs: Mapping[str, tuple[Tensor, ...]]
    """The first argument of every call of an adapted module."""


def observe(
    model: nn.Module, inputs: Mapping[str, Any], *, watched: Iterable[str], kept: Iterable[str]
) -> Observation:
    """Run `model` once; note when `watched` modules are entered and what `kept` ones are given."""
    modules = dict(model.named_modules())
    called: list[str] = []
    given: dict[str, list[Tensor]] = {path: [] for path in kept}
    hooks = []

    def note(path: str) -> Any:
        def enter(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            called.append(path)
            if path in given:
                given[path].append((*arguments, *named.values())[0].detach())

        return enter

    try:
        hooks += [modules[path].register_forward_pre_hook(note(path), with_kwargs=True) for path in watched]
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return Observation(called=tuple(called), inputs={path: tuple(rows) for path, rows in given.items()})


def probe_inputs(inputs: Mapping[str, Any], vocabulary: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two short batches of one row that differ in every token, made of the first row of a real one."""
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, value in inputs.items():
        tensor = isinstance(value, torch.Tensor)
        one[name] = value[:1, :_TOKENS] if tensor and value.dim() > 1 else value[:1] if tensor else value
        ids = tensor and name.endswith("input_ids")
        other[name] = (one[name] + 1) % vocabulary if ids else one[name]
    return one, other
