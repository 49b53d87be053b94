"""A short regular expression that matches exactly the wanted paths."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["alternatives", "exact_expression", "numbers"]

_Box = tuple[frozenset[str], ...]
"""Paths that are a product: for each segment, what may stand there."""
_DIGITS = "0123456789"
_ATOM = re.compile(r"\\?.|\[[^]]*\]")
"""What a question mark applies to without brackets."""
_LEAST_RANGE = 3
"""Digits in a row from which ``[0-2]`` is shorter than ``[012]``, or no longer and easier to read."""
_KEPT = 3
"""Segments beside the last that a loosened expression may name; with more, the whole path is spelled out."""


def exact_expression(wanted: Sequence[str], names: Iterable[str]) -> str:
    """Return an expression that fully matches every path of `wanted` and no other of `names`.

    Paths that differ in one segment only are written as one; of each such group, as few segments are named
    as tell it from all other names, and the rest is ``.*``. Short, though not proven to be the shortest.
    """
    chosen = frozenset(wanted)
    by_leaf: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_leaf[name.rpartition(".")[2]].append(name)
    last_words: dict[str, set[str]] = {}
    for box in _boxes(wanted):
        others = [name for leaf in box[-1] for name in by_leaf[leaf] if name not in chosen]
        last = alternatives(box[-1])
        start = next(each for each in _starts(box) if not _matches_any(each + last, others))
        last_words.setdefault(start, set()).update(box[-1])
    return "|".join(start + alternatives(words) for start, words in last_words.items())


def _matches_any(expression: str, names: Iterable[str]) -> bool:
    return any(map(re.compile(expression).fullmatch, names))


def numbers(values: Iterable[int]) -> str:
    r"""Return an expression for exactly these numbers, such as ``[0-7]`` or ``[12]?\d|3[01]``."""
    return "|".join(_numerals({str(value) for value in values}))


def alternatives(words: Iterable[str]) -> str:
    """Return an expression for exactly these words, with what they share at both ends written once."""
    ordered = sorted(set(words), key=_natural)
    if len(ordered) == 1:
        return re.escape(ordered[0])
    if all(map(_is_number, ordered)):
        text = numbers(map(int, ordered))
        return f"({text})" if "|" in text else text
    start, end = _shared_ends(ordered)
    middles = [word[len(start) : len(word) - len(end)] for word in ordered]
    if all(len(middle) == 1 and middle.isalnum() for middle in middles):
        return f"{re.escape(start)}[{''.join(middles)}]{re.escape(end)}"
    # Cut at underscores only, so that what is left in the brackets can be read.
    start, end = start[: start.rfind("_") + 1], end[end.find("_") :] if "_" in end else ""
    middles = [word[len(start) : len(word) - len(end)] for word in ordered]
    return f"{re.escape(start)}({'|'.join(map(re.escape, middles))}){re.escape(end)}"


def _shared_ends(words: Sequence[str]) -> tuple[str, str]:
    """Return what all `words` start with and what they end with; the two overlap in none of them."""
    size = _agreeing(words)
    rests = [word[size:][::-1] for word in words]
    return words[0][:size], rests[0][: _agreeing(rests)][::-1]


def _agreeing(words: Sequence[str]) -> int:
    """Return how many characters all `words` have in common at their start."""
    columns = enumerate(zip(*words, strict=False))
    return next((size for size, letters in columns if len(set(letters)) > 1), min(map(len, words)))


def _numerals(values: set[str]) -> Iterator[str]:
    """Yield expressions for sets of numerals: those whose prefixes take the same last digits go together."""
    last: defaultdict[str, set[str]] = defaultdict(set)
    for value in values:
        last[value[:-1]].add(value[-1])
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for prefix, digits in last.items():
        groups["".join(sorted(digits))].add(prefix)
    for run, prefixes in sorted(
        groups.items(), key=lambda group: min((len(each), each) for each in group[1])
    ):
        longer = prefixes - {""}
        start = "|".join(_numerals(longer))
        optional = bool(longer) and "" in prefixes
        if "|" in start or (optional and not _ATOM.fullmatch(start)):
            start = f"({start})"
        yield f"{start}{'?' if optional else ''}{_digit_class(run)}"


def _digit_class(run: str) -> str:
    if run == _DIGITS:
        return r"\d"
    if len(run) == 1:
        return run
    return f"[{run[0]}-{run[-1]}]" if len(run) >= _LEAST_RANGE and run in _DIGITS else f"[{run}]"


def _boxes(paths: Iterable[str]) -> list[_Box]:
    """Return `paths` as few products of segments, such as layers x modules."""
    boxes: list[_Box] = [tuple(frozenset((segment,)) for segment in path.split(".")) for path in paths]
    while True:
        merged = boxes
        for place in range(max(map(len, boxes), default=0) - 1, -1, -1):
            merged = _merged_at(place, merged)
        if len(merged) == len(boxes):
            return boxes
        boxes = merged


def _merged_at(place: int, boxes: Sequence[_Box]) -> list[_Box]:
    """Return `boxes` with those that differ at `place` only made one."""
    groups: dict[tuple[_Box, _Box], set[str]] = {}
    short = []
    for box in boxes:
        if place < len(box):
            groups.setdefault((box[:place], box[place + 1 :]), set()).update(box[place])
        else:
            short.append(box)
    return [*short, *((*before, frozenset(words), *after) for (before, after), words in groups.items())]


def _starts(box: _Box) -> Iterator[str]:
    """Yield expressions for all of `box` but its last segment, the most open first, the exact one last."""
    last = len(box) - 1
    for size in range(min(_KEPT, last) + 1):
        choices = combinations(range(last), size)
        texts = (_start(box, kept, any_index=any_index) for kept in choices for any_index in (True, False))
        yield from sorted(texts, key=len)
    yield _start(box, range(last), any_index=False)


def _start(box: _Box, kept: Sequence[int], *, any_index: bool) -> str:
    """Return the expression that names the segments `kept`, numbers perhaps as any number, and no others."""
    text, next_place = "", 0
    for place in kept:
        number = any_index and all(map(_is_number, box[place]))
        gap = r".*\." if place > next_place else ""
        text += gap + (r"\d+" if number else alternatives(box[place])) + r"\."
        next_place = place + 1
    return text + r".*\." if next_place < len(box) - 1 else text


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and word == str(int(word))


def _natural(word: str) -> tuple[int, str]:
    """Order numbers by their value, after other words."""
    return (int(word), "") if _is_number(word) else (-1, word)
