"""How the trials of a wave are spread over the machine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Layout"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Lanes that work at the same time, each on stacks of some trials, one stack after another."""

    lanes: int = 1
    """Threads that each have their share of the cores."""
    stack: int | None = None
    """The most trials of one stack; None for all of a lane's."""

    def __str__(self) -> str:
        return f"{self.lanes}x{self.stack or 'all'}"

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Return the layout that prints as `text`; raises ValueError for any other text."""
        lanes, _, stack = text.partition("x")
        return cls(lanes=int(lanes), stack=None if stack == "all" else int(stack))

    @property
    def sentence(self) -> str:
        """What a person calls it."""
        together = {None: "stacked", 1: "one after another"}.get(self.stack, f"stacked by {self.stack}")
        return together if self.lanes == 1 else f"{together} in {self.lanes} lanes"

    def divide(self, trials: Sequence[T]) -> tuple[tuple[tuple[T, ...], ...], ...]:
        """Return lanes of stacks of trials, in order, as even as can be."""
        lanes = (tuple(lane) for lane in _even(trials, self.lanes))
        return tuple(
            tuple(tuple(stack) for stack in _even(lane, -(-len(lane) // (self.stack or len(lane)))))
            for lane in lanes
        )


def _even(items: Sequence[T], parts: int) -> list[Sequence[T]]:
    """Cut a sequence into so many parts that differ by one item at most; none is empty."""
    parts = min(parts, len(items))
    ends = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:stop] for start, stop in pairwise(ends)]
