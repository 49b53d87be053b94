"""The forms in which trainers read their configuration: YAML, arguments of a command, a call in Python."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["arguments_text", "call_text", "yaml_text"]

_UNBROKEN = 10**9
"""Width of a line, so that YAML never folds an expression."""


def yaml_text(header: Iterable[str], fields: Mapping[str, Any]) -> str:
    """Return `fields` as a YAML document below comments."""
    import yaml

    body: str = yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=_UNBROKEN)
    return _comments(header) + body


def arguments_text(header: Iterable[str], options: Mapping[str, Sequence[str] | str]) -> str:
    """Return command-line arguments, one option a line and quoted for a shell, below comments."""
    lines = []
    for name, value in options.items():
        words = [value] if isinstance(value, str) else value
        lines.append(f"--{name} {' '.join(map(shlex.quote, words))}")
    return _comments(header) + " \\\n".join(lines) + "\n"


def call_text(header: Iterable[str], start: str, first: Iterable[str], keywords: Mapping[str, Any]) -> str:
    """Return a call in Python that `start` opens, one argument a line, below comments."""
    lines = [*first, *(f"{name}={value!r}" for name, value in keywords.items())]
    return _comments(header) + start + "".join(f"\n    {line}," for line in lines) + "\n)\n"


def _comments(lines: Iterable[str]) -> str:
    return "".join(f"# {line}\n" for line in lines)
