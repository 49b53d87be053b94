"""What a comparison finds, as plain records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from lora_probe.frames import frame_of

if TYPE_CHECKING:
    import pandas as pd

    from lora_probe.patterns import Pattern

__all__ = ["Change", "Difference", "Facts", "RoleDifference", "Side", "SiteDifference", "Total"]


class Change(str, Enum):
    """How something differs from the first side to the second."""

    REMOVED = "removed"
    """Only the first side has it."""
    ADDED = "added"
    """Only the second side has it."""
    CHANGED = "changed"
    """Both have it, with other facts."""

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two that are compared."""

    model: str
    source: str
    architecture: str
    targets: str | None
    """The target set, None where whole models are compared."""
    sites: int
    parameters: int
    """Elements of the model; with a target set, trained ones."""

    @property
    def label(self) -> str:
        """What tells this side from the other: its target set if it has one, else its model."""
        return self.targets or self.model


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is compared about one weight."""

    role: str
    kind: str
    sizes: tuple[int, ...]
    """Of a site: in, out and, if there are several, experts; of another weight: its shape."""
    tied: bool = False
    """Whether the weight is another one's."""
    rank: int | None = None
    """Rank of its adapter, where target sets are compared."""
    parameters: int = 0
    """Elements that it adds to the model's total, or that its adapter trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Weights of one role, and their elements."""

    sites: int = 0
    parameters: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleDifference:
    """One role that the two sides have in another number or size."""

    role: str
    first: Total
    second: Total


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteDifference:
    """Weights that differ in the same way and whose names make one pattern."""

    change: Change
    pattern: Pattern
    first: Facts | None
    """Of each of them on the first side; None where they are added."""
    second: Facts | None
    """None where they are removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Everything in which two sides differ."""

    first: Side
    second: Side
    same: int
    """How many weights are the same on both sides."""
    roles: tuple[RoleDifference, ...]
    sites: tuple[SiteDifference, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the two sides are equal in all that is compared."""
        return not self.sites

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON types; patterns are spelled out as the names they stand for."""
        return {
            "equal": self.is_empty,
            "first": asdict(self.first),
            "second": asdict(self.second),
            "same": self.same,
            "roles": [asdict(role) for role in self.roles],
            "sites": [
                {
                    "change": row.change.value,
                    "pattern": str(row.pattern),
                    "names": list(row.pattern),
                    "first": None if row.first is None else asdict(row.first),
                    "second": None if row.second is None else asdict(row.second),
                }
                for row in self.sites
            ],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the difference as one JSON document in ASCII."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a name that differs, with the facts of both sides side by side."""
        sides = ("first", "second")
        rows = [
            {
                "name": name,
                "change": row.change.value,
                **{
                    f"{field}_{side}": None if facts is None else getattr(facts, field)
                    for field in Facts.__dataclass_fields__
                    for side, facts in zip(sides, (row.first, row.second), strict=True)
                },
            }
            for row in self.sites
            for name in row.pattern
        ]
        columns = [
            "name",
            "change",
            *(f"{field}_{side}" for field in Facts.__dataclass_fields__ for side in sides),
        ]
        frame = frame_of(rows, columns)
        whole = [f"{field}_{side}" for field in ("rank", "parameters") for side in sides]
        return frame.astype(dict.fromkeys(whole, "Int64"))
