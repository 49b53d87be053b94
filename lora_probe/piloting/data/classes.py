"""The classes of a classification task, from labels as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.data.layouts import Kind
from lora_probe.piloting.errors import BadExample, NoUsableData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.piloting.data.contents import Content, Contents

__all__ = ["find_classes"]

_FEW = 20
"""So many classes may be as many as there are examples: a tiny set of data."""

_LONGEST_NUMBER = 18
"""Digits; what is longer is sorted as a name."""


def find_classes(
    contents: Contents, names: Mapping[str, tuple[str, ...]], *, source: str, head: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of the classes, and the number of each label as it is written.

    The classes are those of `head`, a classifier's, where it knows all that the data name. Else the order is
    the dataset's own where it names its classes; else whole numbers go by size, all other labels by name.

    Raises:
        NoUsableData: all labels are equal, or hardly two are.
        BadExample: a number is none of those that the dataset names.

    """
    found, numbers = _classes_of_data(contents, names, source=source)
    if not set(found) <= set(head):
        return found, numbers
    place = {name: number for number, name in enumerate(head)}
    return tuple(head), {label: place[found[number]] for label, number in numbers.items()}


def _classes_of_data(
    contents: Contents, names: Mapping[str, tuple[str, ...]], *, source: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    meaning = "labels" if contents.layout.kind is Kind.TAGGED else "label"
    labels = dict.fromkeys(_labels(contents.contents, meaning))
    named = names.get(contents.layout.columns[meaning])
    if named is not None:
        known = {
            **{name: number for number, name in enumerate(named)},
            **{str(n): n for n in range(len(named))},
        }
        for content in contents.contents:
            strange = next((each for each in _labels([content], meaning) if each not in known), None)
            if strange is not None:
                problem = f"its label is {strange}, but the dataset's classes are 0 to {len(named) - 1}"
                raise BadExample(where=content.place, problem=problem)
        return named, known
    if len(labels) == 1:
        raise NoUsableData(source=source, problem=f"every label is {next(iter(labels))!r}")
    if len(labels) > max(_FEW, len(contents.contents) // 2):
        problem = (
            f"its {len(contents.contents)} examples have {len(labels)} different labels, which are no classes"
        )
        raise NoUsableData(source=source, problem=problem)
    order = tuple(sorted(labels, key=_by_number))
    return order, {name: number for number, name in enumerate(order)}


def _labels(contents: Sequence[Content], meaning: str) -> Iterator[str]:
    """Yield every label as text; a dataset may mark tokens without one with -100."""
    for content in contents:
        cell: Any = content.cells[meaning]
        yield from (str(each) for each in cell if each != IGNORED) if isinstance(cell, list) else (str(cell),)


def _by_number(label: str) -> tuple[bool, int, str]:
    number = label.removeprefix("-")
    is_number = number.isascii() and number.isdigit() and len(number) < _LONGEST_NUMBER
    return (not is_number, int(label) if is_number else 0, label)
