"""Paths that are too long for their place: without what their neighbours say, or broken after dots."""

from __future__ import annotations

import re
from os.path import commonprefix
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.measure import Measurement
from rich.text import Text

from lora_probe.patterns import index_text
from lora_probe.report.numbers import exact
from lora_probe.report.wording import TIMES, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderResult

    from lora_probe.patterns import Pattern

__all__ = ["DottedPath", "abridged", "broken", "counted_abridged", "shared_start"]

_LONGEST_LIST = 24
"""Characters of a list of indices that are shown in a narrow place."""


class DottedPath:
    """A path as a rich renderable that is broken after dots."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        for line in broken(self._path, options.max_width):
            yield Text(line, overflow="fold")

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Measure the widest segment, which should stay whole, and the whole path."""
        widest = max(map(cell_len, broken(self._path, 1)))
        return Measurement(widest, cell_len(self._path)).with_maximum(options.max_width)


def abridged(pattern: Pattern) -> str:
    """Return `pattern` with a long list of indices told by its number and bounds: ``layers.{23 of 0…50}``."""
    return shown("".join(piece if isinstance(piece, str) else _indices(piece) for piece in pattern.pieces))


def counted_abridged(pattern: Pattern) -> str:
    """Return :func:`abridged` and how many paths the pattern stands for, where that is more than one."""
    return f"{abridged(pattern)} {TIMES}{exact(len(pattern))}" if len(pattern) > 1 else abridged(pattern)


def shared_start(patterns: Iterable[Pattern]) -> str:
    """Return how the paths of all repeated layers begin, up to a dot: ``model.language_model.layers.``."""
    starts = [pattern.pieces[0] for pattern in patterns if len(pattern.pieces) > 1]
    texts = [start for start in starts if isinstance(start, str)]
    if len(texts) < len(starts):
        return ""
    above, dot, _ = commonprefix(texts).rpartition(".")  # noqa: RUF071 - what has dots is cut at one
    return above + dot


def broken(path: str, width: int, *, first: int | None = None) -> list[str]:
    """Return the lines of `path` in `width` cells, each but the last with a dot at its end where one can be.

    The first line has `first` cells. A segment that is wider than a line is left as it is.
    """
    lines, left = [""], width if first is None else first
    for segment in re.split(r"(?<=\.)", path):
        if lines[-1] and cell_len(lines[-1] + segment) > left:
            lines.append("")
            left = width
        lines[-1] += segment
    return lines


def _indices(piece: tuple[int, ...]) -> str:
    text = index_text(piece)
    return text if len(text) <= _LONGEST_LIST else f"{{{len(piece)} of {piece[0]}…{piece[-1]}}}"
