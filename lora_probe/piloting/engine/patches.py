"""Forwards that are replaced for a while on single modules, and given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["Patches"]


class Patches:
    """Replaced forwards of a model; `undo` gives every module back as it was."""

    def __init__(self) -> None:
        self._undo: list[tuple[nn.Module, str, Any]] = []

    def replace(self, module: nn.Module, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Let `make(forward)` stand in for the module's forward.

        Under accelerate's hooks (`device_map`), which keep the real forward aside, it is that one that is
        replaced.
        """
        name = "_old_forward" if "_old_forward" in module.__dict__ else "forward"
        self._undo.append((module, name, module.__dict__.get(name)))
        module.__dict__[name] = make(getattr(module, name))

    def undo(self) -> None:
        """Take everything back, the latest first; calling it twice is harmless."""
        while self._undo:
            module, name, before = self._undo.pop()
            if before is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = before
