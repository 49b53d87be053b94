"""The one tree of errors that a user can cause.

Every class takes facts, keeps them as attributes, and builds its own sentence: what is wrong, where, what is
near it, what to do. The command line turns exactly this tree into ``Error: …`` and exit code 2; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LoraProbeError"]


class LoraProbeError(Exception):
    """Base of everything that bad input or a missing resource can cause."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def near_misses(near: Sequence[str]) -> str:
    """Return the clause that names close matches, empty when there are none."""
    return f"; close names: {', '.join(near)}" if near else ""


class GraphFormatError(LoraProbeError, ValueError):
    """A document is not a module graph that this version can read."""

    def __init__(self, *, problem: str) -> None:
        self.problem = problem
        super().__init__(f"not a lora-probe module graph: {problem}")
