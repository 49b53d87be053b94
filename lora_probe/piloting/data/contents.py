"""What each row says, checked cell by cell, and the key that its content has wherever it stands."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.errors import LoraProbeError
from lora_probe.piloting.data.layouts import Kind, Layout, choose_layout
from lora_probe.piloting.errors import BadExample, NoUsableData
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.data.rows import Rows
    from lora_probe.piloting.records import Task

__all__ = ["Content", "Contents", "read_contents"]

_CHATML = {"from": "role", "value": "content"}
_ANSWERS = frozenset({"label", "labels"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """One row by the meaning of its cells: ``{"prompt": …, "completion": …}``."""

    key: str
    """SHA-256 of `cells`, independent of where the row stands and of how its columns are called."""
    question: str
    """The same of the cells without labels: examples of equal question share a part of the split."""
    cells: Mapping[str, Any]
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """All rows that say anything, each once, in the order of the source."""

    layout: Layout
    contents: tuple[Content, ...]
    empty: int = 0
    """Rows without content, left out."""
    duplicates: int = 0
    """Rows that say what another one says, left out."""


def read_contents(rows: Rows, *, task: Task, mapped: Mapping[str, str], source: str) -> Contents:
    """Return what the rows say, without empty ones and repetitions.

    Raises:
        NoUsableData: there is no row, or none with content.
        MissingColumn: the columns are not those of the task.
        BadExample: a cell holds what its column cannot hold, or rows are of different layouts.

    """
    if not rows.rows:
        raise NoUsableData(source=source, problem="there is no row")
    there = dict.fromkeys(column for row in rows.rows for column, cell in row.items() if cell is not None)
    layout = choose_layout(task, there or dict.fromkeys(rows.rows[0]), mapped, source=source)
    found: dict[str, Content] = {}
    empty = 0
    for row, place in zip(rows.rows, rows.places, strict=True):
        cells = _cells(row, layout, place)
        if cells is None:
            _same_layout(row, task=task, layout=layout, mapped=mapped, place=place)
            empty += 1
        else:
            question = {meaning: cell for meaning, cell in cells.items() if meaning not in _ANSWERS}
            key, asked = _key(layout.kind, cells, place), _key(layout.kind, question, place)
            content = Content(key=key, question=asked, cells=cells, place=place)
            found.setdefault(content.key, content)
    if not found:
        raise NoUsableData(source=source, problem="every row is empty")
    duplicates = len(rows.rows) - empty - len(found)
    return Contents(layout=layout, contents=tuple(found.values()), empty=empty, duplicates=duplicates)


def _cells(row: Mapping[str, Any], layout: Layout, place: str) -> dict[str, Any] | None:
    """Return the cells of a row by meaning, or None where a required one is empty."""
    cells = {}
    for meaning, column in layout.columns.items():
        cell = row.get(column)
        if cell is not None and meaning in _CHECKS:
            cell = _CHECKS[meaning](cell, column, place)
        may_be_empty = layout.kind is Kind.COMPLETION and meaning == "prompt"
        if cell is not None and not _blank(cell, may_be_empty=may_be_empty):
            cells[meaning] = cell
        elif meaning in layout.required:
            return None
    if layout.kind is Kind.COMPLETION and isinstance(cells["prompt"], str) is not isinstance(
        cells["completion"], str
    ):
        problem = "its prompt and completion are not both texts or both lists of messages"
        raise BadExample(where=place, problem=problem)
    if layout.kind is Kind.TAGGED and len(cells["tokens"]) != len(cells["labels"]):
        counts = f"{len(cells['tokens'])} and {len(cells['labels'])}"
        problem = f"its tokens and labels are not equally many: {counts}"
        raise BadExample(where=place, problem=problem)
    return cells


def _blank(cell: Any, *, may_be_empty: bool) -> bool:
    """Tell whether a cell says nothing; an empty text may be a prompt, as the beginning of everything."""
    return cell == [] or (isinstance(cell, str) and not cell.strip() and not may_be_empty)


def _same_layout(
    row: Mapping[str, Any], *, task: Task, layout: Layout, mapped: Mapping[str, str], place: str
) -> None:
    """Refuse a row without content that has it in the columns of another layout."""
    try:
        there = [column for column, cell in row.items() if cell is not None]
        other = choose_layout(task, there, mapped, source=place)
    except LoraProbeError:
        return
    if other.kind is not layout.kind:
        problem = f"it is a row of {other.kind} among rows of {layout.kind}"
        raise BadExample(where=place, problem=problem, advice="all rows must be of one kind")


def _key(kind: Kind, cells: Mapping[str, Any], place: str) -> str:
    said = json.dumps([kind, cells], sort_keys=True, ensure_ascii=False, default=str, separators=(",", ":"))
    try:
        return hashlib.sha256(said.encode()).hexdigest()
    except UnicodeEncodeError:
        raise BadExample(where=place, problem="it holds half of a surrogate pair, which is no text") from None


def _text(cell: Any, column: str, place: str) -> str:
    if not isinstance(cell, str):
        raise _bad(cell, column, place, "a text")
    return cell


def _text_or_messages(cell: Any, column: str, place: str) -> str | list[dict[str, Any]]:
    return cell if isinstance(cell, str) else _messages(cell, column, place)


def _messages(cell: Any, column: str, place: str) -> list[dict[str, Any]]:
    """Check a conversation; turns of `from` and `value` become `role` and `content`, as in TRL."""
    if not isinstance(cell, list):
        raise _bad(cell, column, place, "a list of messages")
    messages: list[dict[str, Any]] = []
    for message in cell:
        if not isinstance(message, dict):
            raise _bad(message, f"{column}[{len(messages)}]", place, "a message with a role and a content")
        said = {_CHATML.get(str(name), str(name)): value for name, value in message.items()}
        if not isinstance(said.get("role"), str):
            problem = f"{printable(column)}[{len(messages)}] is a message without a role"
            raise BadExample(where=place, problem=problem)
        content = said.get("content")
        if content is not None and not isinstance(content, (str, list)):
            raise _bad(content, f"{column}[{len(messages)}].content", place, "a text")
        messages.append(said)
    return messages


def _label(cell: Any, column: str, place: str) -> str | int:
    if isinstance(cell, bool):
        return int(cell)
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if not isinstance(cell, (str, int)):
        raise _bad(cell, column, place, "a whole number or a text that names a class")
    return cell


def _words(cell: Any, column: str, place: str) -> list[str]:
    return [
        _text(word, f"{column}[{index}]", place) for index, word in enumerate(_listed(cell, column, place))
    ]


def _labels(cell: Any, column: str, place: str) -> list[str | int]:
    return [
        _label(each, f"{column}[{index}]", place) for index, each in enumerate(_listed(cell, column, place))
    ]


def _listed(cell: Any, column: str, place: str) -> list[Any]:
    if not isinstance(cell, list):
        raise _bad(cell, column, place, "a list")
    return cell


def _bad(cell: Any, column: str, place: str, wanted: str) -> BadExample:
    shown = printable(repr(cell), limit=40)
    return BadExample(where=place, problem=f"its {printable(column, limit=60)} is {shown}, not {wanted}")


_CHECKS = {
    "text": _text,
    "text_pair": _text,
    "prompt": _text_or_messages,
    "completion": _text_or_messages,
    "messages": _messages,
    "label": _label,
    "tokens": _words,
    "labels": _labels,
}
