"""Target text cut into tokens, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.errors import TargetSyntaxError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Token", "tokens"]

_QUOTED = r'"(?:[^"]|"")*"'
_LAYERS = r"(?:[0-9]+(?:-[0-9]+)?|odd|even|(?:first|last):[0-9]+)(?![\w:])"
_TOKENS = re.compile(
    rf"""
    (?P<space>\s+)
  | (?P<shorthand>(?i:all-linear)(?![\w.:]))
  | name:(?P<name>{_QUOTED}|[^\s+,@()"]+)
  | re:(?P<expression>{_QUOTED}|[^\s@"]+)
  | @(?P<layers>(?:{_LAYERS}|[\w:]+)(?:,{_LAYERS})*)
  | (?P<word>(?!(?:name|re):)[\w.:]+)
  | (?P<sign>[-+,()])
    """,
    re.VERBOSE,
)
_EXPECTED = {
    "name:": "a name after name:, in double quotes if it holds blanks or any of + , @ ( )",
    "re:": "a regular expression after re:, in double quotes if it holds blanks, quotes or @",
    "@": "layers after @, such as 0-7, 0,3,5, last:8, first:4, odd or even",
    '"': "a quoted text only after name: or re:",
    "[": "a role, a name or a sign: names are joined by commas, without brackets or quotes",
    **dict.fromkeys("*|?^$\\{", "a role, a name or a sign: a regular expression starts with re:"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One token: its kind, what it says without prefix and quotes, and where it starts."""

    kind: str
    text: str
    position: int


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of `text`, and one of kind ``end`` after the last.

    Kinds: shorthand, name, expression, layers, word, and the signs ``+ - , ( )``, each a kind of its own. A
    minus is a sign wherever it can be one: names that hold it are written ``name:…``, where it is part of
    the name.

    Raises:
        TargetSyntaxError: a character starts no token.

    """
    position = 0
    while position < len(text):
        match = _TOKENS.match(text, position)
        if match is None:
            expected = next((say for start, say in _EXPECTED.items() if text.startswith(start, position)), "")
            raise TargetSyntaxError(
                text=text, position=position, expected=expected or "a role, a name or a sign"
            )
        kind = match.lastgroup or ""
        if kind != "space":
            value = match[kind]
            if value.startswith('"'):
                value = value[1:-1].replace('""', '"')
            yield Token(kind=value if kind == "sign" else kind, text=value, position=position)
        position = match.end()
    yield Token(kind="end", text="", position=len(text))
