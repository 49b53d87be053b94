"""Target specifications as records: what was asked for, before any model is looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AllLinear", "Expression", "Layers", "Name", "Names", "Role", "Selector", "TargetSpec", "Term"]

_PLAIN_NAME = re.compile(r"[\w.]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What plays a role: a tower, a block, a part of a block, or a block or part in one tower."""

    tower: str | None = None
    block: str | None = None
    part: str | None = None

    def __str__(self) -> str:
        tower = f"{self.tower}:" if self.tower else ""
        return f"{tower}{self.block or ''}{f'.{self.part}' if self.part else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """Modules and parameters whose full name is `text` or ends with a dot and it; nothing is rewritten."""

    text: str

    def __str__(self) -> str:
        return f"name:{self.text if _PLAIN_NAME.fullmatch(self.text) else _quoted(self.text)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """A list of names, read as PEFT reads `target_modules`: with its rewriting of expert names."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """A regular expression over full module names, read as PEFT reads `target_modules`."""

    pattern: str

    def __str__(self) -> str:
        return f"re:{_quoted(self.pattern)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AllLinear:
    """PEFT's ``all-linear``."""

    def __str__(self) -> str:
        return "all-linear"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """Which of the repeated layers of a tower; what fits any of the fields is in."""

    ranges: tuple[tuple[int, int], ...] = ()
    """First and last index of each range, both in it; sorted, apart from each other."""
    first: int = 0
    """How many from the start."""
    last: int = 0
    """How many from the end."""
    parity: frozenset[int] = frozenset()
    """0 for even indices, 1 for odd ones."""

    def hold(self, index: int, *, count: int) -> bool:
        """Return whether layer `index` of `count` is among them."""
        return (
            index < self.first
            or index >= count - self.last
            or index % 2 in self.parity
            or any(low <= index <= high for low, high in self.ranges)
        )

    def __str__(self) -> str:
        items = [str(low) if low == high else f"{low}-{high}" for low, high in self.ranges]
        items += [name for name, index in (("even", 0), ("odd", 1)) if index in self.parity]
        items += [f"{name}:{size}" for name, size in (("first", self.first), ("last", self.last)) if size]
        return f"@{','.join(items)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One part of a specification: what it selects, in which layers, and whether it adds or removes."""

    selector: Selector
    layers: Layers | None = None
    removes: bool = False
    position: int = field(default=0, compare=False, repr=False)
    """Where it stands in the text that was parsed."""

    def __str__(self) -> str:
        inner = f"({self.selector})" if isinstance(self.selector, TargetSpec) else str(self.selector)
        return f"{inner}{self.layers or ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpec:
    """Which weights are wanted: terms that add or remove, taken from left to right.

    Made by :func:`~lora_probe.targets.parse_targets`; ``str(spec)`` is the canonical text, which parses
    back to an equal specification. Presets are spelled out in it.
    """

    terms: tuple[Term, ...]
    text: str = field(default="", compare=False, repr=False)
    """The text that was parsed, to point into."""

    @property
    def verbatim(self) -> Mapping[str, tuple[str, ...] | str] | None:
        """The field of a `LoraConfig` that says the same, where the whole is what PEFT itself understands.

        None for everything else, which takes :func:`~lora_probe.targets.emit` to be said to PEFT.
        """
        if len(self.terms) != 1 or self.terms[0].layers:
            return None
        selector = self.terms[0].selector
        if isinstance(selector, Names):
            return {"target_modules": selector.names}
        if isinstance(selector, Expression):
            return {"target_modules": selector.pattern}
        return {"target_modules": str(selector)} if isinstance(selector, AllLinear) else None

    def __str__(self) -> str:
        # Blanks keep a minus out of the name or the layers before it.
        parts = (f"{' - ' if term.removes else '+'}{term}" for term in self.terms)
        return "".join(parts).removeprefix("+")


Selector: TypeAlias = Role | Name | Names | Expression | AllLinear | TargetSpec
"""What one term may select by."""


def _quoted(text: str) -> str:
    """Return `text` in double quotes, which are doubled inside; a backslash stands for itself."""
    return '"' + text.replace('"', '""') + '"'
