"""Which columns mean what: the layouts of rows that each task reads, and how one is chosen.

The names are those of TRL for language models (``text``; ``prompt`` and ``completion``; ``messages``, or
``conversations``) and those of common datasets for the other tasks. Any can be mapped by the user.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import BadDataOption, MissingColumn
from lora_probe.piloting.records import Task

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Kind", "Layout", "choose_layout"]


class Kind(str, Enum):
    """What one row is."""

    TEXT = "text"
    COMPLETION = "prompt and completion"
    CONVERSATION = "conversation"
    TRANSLATION = "source and target"
    CLASSIFIED = "text and label"
    TAGGED = "tokens and labels"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A kind of rows, and which column holds what."""

    kind: Kind
    columns: Mapping[str, str]
    """Meaning -> column, of the required meanings and those optional ones that are there."""
    required: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pattern:
    """Meanings of a kind, each with the names that its column commonly has, the best first."""

    kind: Kind
    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_MAP = "say which column is which, as in --column text=body"
_CHAT = {"tools": ("tools",), "chat_template_kwargs": ("chat_template_kwargs",)}
_TEXT = _Pattern(kind=Kind.TEXT, required={"text": ("text",)})
_PATTERNS: Mapping[Task, tuple[_Pattern, ...]] = {
    Task.CAUSAL_LM: (  # in the order in which TRL looks for them
        _Pattern(
            kind=Kind.COMPLETION,
            required={"prompt": ("prompt",), "completion": ("completion",)},
            optional=_CHAT,
        ),
        _Pattern(
            kind=Kind.CONVERSATION, required={"messages": ("messages", "conversations")}, optional=_CHAT
        ),
        _TEXT,
    ),
    Task.SEQ2SEQ: (
        _Pattern(
            kind=Kind.TRANSLATION,
            required={
                "prompt": ("prompt", "source", "input", "text", "document", "article"),
                "completion": ("completion", "target", "output", "summary", "highlights"),
            },
        ),
    ),
    Task.MASKED_LM: (_TEXT,),
    Task.SEQUENCE_CLASSIFICATION: (
        _Pattern(
            kind=Kind.CLASSIFIED,
            required={
                "text": ("text", "sentence", "sentence1", "premise", "question1"),
                "label": ("label", "labels"),
            },
            optional={"text_pair": ("text_pair", "sentence2", "hypothesis", "question2")},
        ),
    ),
    Task.TOKEN_CLASSIFICATION: (
        _Pattern(
            kind=Kind.TAGGED,
            required={
                "tokens": ("tokens", "words"),
                "labels": ("labels", "ner_tags", "pos_tags", "tags"),
            },
        ),
    ),
}


def choose_layout(task: Task, there: Collection[str], mapped: Mapping[str, str], *, source: str) -> Layout:
    """Return the first layout of `task` whose columns are `there`; what the user `mapped` comes first.

    `source` is where the rows come from, for messages.

    Raises:
        MissingColumn: no layout fits, or a mapped column is not there.
        BadDataOption: the task knows no such meaning as a mapped one.

    """
    patterns = _PATTERNS[task]
    meanings = sorted({meaning for each in patterns for meaning in (*each.required, *each.optional)})
    for meaning, column in mapped.items():
        if meaning not in meanings:
            problem = f"means nothing for {task}; known are {', '.join(meanings)}"
            raise BadDataOption(option="column", value=meaning, problem=problem)
        if column not in there:
            near = difflib.get_close_matches(column, there)
            raise MissingColumn(
                source=source, needed=column, columns=sorted(there), advice="name one of these", near=near
            )
    for pattern in patterns:
        found = _fitting(pattern, there, mapped)
        if found is not None:
            return found
    needed = ", or ".join(" and ".join(each.required) for each in patterns)
    raise MissingColumn(source=source, needed=f"{needed} (for {task})", columns=sorted(there), advice=_MAP)


def _fitting(pattern: _Pattern, there: Collection[str], mapped: Mapping[str, str]) -> Layout | None:
    if not mapped.keys() <= pattern.required.keys() | pattern.optional.keys():
        return None
    columns: dict[str, str] = {}
    for meaning, names in (*pattern.required.items(), *pattern.optional.items()):
        column = mapped.get(meaning) or next((name for name in names if name in there), None)
        if column is not None:
            columns[meaning] = column
        elif meaning in pattern.required:
            return None
    return Layout(kind=pattern.kind, columns=columns, required=tuple(pattern.required))
