"""The one parser of target text: for the command line, Python and files alike.

::

    targets  = ["+"] term { ("+" | "-") term }      taken from left to right
    term     = ( "(" targets ")" | selector ) [ "@" layers ]
    selector = "all-linear" | preset | role | names | "name:" name | "re:" expression
    role     = tower ":" [ block [ "." part ] ] | block [ "." part ]
    names    = name { "," name }                    read as PEFT reads target_modules
    layers   = item { "," item }
    item     = number | number "-" number | "odd" | "even" | "first:" number | "last:" number

A word is a role where it starts with the name of a block (`lora_probe.roles`) and goes on, if at all, with
one of that block's parts; any other word is a name, so that ``mlp.c_proj`` is GPT-2's module and
``mlp.down`` a role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lora_probe.errors import BadTargets, PeftRefusal, TargetSyntaxError
from lora_probe.peft_rules.matching import compiled
from lora_probe.roles.vocabulary import BLOCKS, PARTS, TOWERS
from lora_probe.targets.presets import PRESETS
from lora_probe.targets.spec import AllLinear, Expression, Layers, Name, Names, Role, TargetSpec, Term
from lora_probe.targets.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.targets.spec import Selector
    from lora_probe.targets.tokens import Token

__all__ = ["parse_targets", "role_of"]

_ITEM = re.compile(
    r"(?P<low>[0-9]{1,6})(?:-(?P<high>[0-9]{1,6}))?|(?P<end>first|last):(?P<size>[0-9]{1,6})"
    r"|(?P<parity>odd|even)"
)
_DEPTH = 20
"""Brackets within brackets; deeper ones are no target of a person."""
_TERMS = 1000
"""Targets in one text: each is looked for in the whole model."""


def parse_targets(text: str | Sequence[str]) -> TargetSpec:
    """Return the specification that `text` says; a list of names is what PEFT takes as `target_modules`.

    Raises:
        TargetSyntaxError: `text` is no specification; points at the character and says what was expected.
        BadTargets: it is neither a text nor a list of names.

    """
    if not isinstance(text, str):
        names = _names_of(text)
        return TargetSpec(terms=(Term(selector=names),), text=str(names))
    parser = _Parser(text)
    spec = parser.targets()
    parser.expect("end", "+ or - and another target, or the end")
    return replace(spec, text=text)


def _names_of(values: object) -> Names:
    if isinstance(values, bytes) or not isinstance(values, Iterable):
        raise BadTargets(text=repr(values), problem="is neither a text nor a list of names")
    names = tuple(dict.fromkeys(values))
    if not names:
        raise TargetSyntaxError(text="", position=0, expected="at least one name")
    if wrong := [name for name in names if not isinstance(name, str) or not name]:
        raise BadTargets(text=repr(wrong[0]), problem="is no name")
    return Names(names=names)


class _Parser:
    """Reads tokens from left to right; each method reads what its name says in the grammar above."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokens(text))
        self._next = 0
        self._depth = 0
        self._terms = 0

    def targets(self) -> TargetSpec:
        self._accept("+")
        found = [self._term(removes=False)]
        while sign := self._accept("+", "-"):
            found.append(self._term(removes=sign.kind == "-"))
        return TargetSpec(terms=tuple(_flattened(found)))

    def expect(self, kind: str, expected: str) -> Token:
        token = self._accept(kind)
        if token is None:
            raise self._error(self._tokens[self._next], expected)
        return token

    def _term(self, *, removes: bool) -> Term:
        start = self._tokens[self._next]
        self._terms += 1
        if self._terms > _TERMS:
            raise self._error(start, f"no more than {_TERMS} targets: join names by commas")
        selector = self._selector()
        token = self._accept("layers")
        layers = self._layers(token) if token else None
        return Term(selector=selector, layers=layers, removes=removes, position=start.position)

    def _selector(self) -> Selector:
        if self._accept("("):
            return self._group()
        if token := self._accept("shorthand", "name", "expression"):
            return self._literal(token)
        word = self.expect("word", "a role, a name, all-linear, name:… or re:…")
        if self._tokens[self._next].kind == ",":
            return self._names(word)
        if word.text in PRESETS:
            preset = parse_targets(PRESETS[word.text])
            return preset.terms[0].selector if len(preset.terms) == 1 else preset
        return self._word(word)

    def _group(self) -> TargetSpec:
        self._depth += 1
        if self._depth > _DEPTH:
            raise self._error(
                self._tokens[self._next - 1], f"no more than {_DEPTH} brackets within each other"
            )
        spec = self.targets()
        self.expect(")", "+ or - and another target, or the closing bracket")
        self._depth -= 1
        return spec

    def _literal(self, token: Token) -> AllLinear | Name | Expression:
        if token.kind == "shorthand":
            return AllLinear()
        return Name(text=token.text) if token.kind == "name" else self._expression(token)

    def _expression(self, token: Token) -> Expression:
        pattern = token.text
        try:
            compiled(pattern, field="target_modules")
        except PeftRefusal as refusal:
            error = refusal.__cause__
            reason, index = getattr(error, "msg", str(error)), getattr(error, "pos", None) or 0
            start = token.position + len("re:")
            if self._text[start] == '"':
                start += 1 + pattern.count('"', 0, index)
            place = replace(token, position=start + index)
            raise self._error(place, f"a regular expression ({reason})") from error
        return Expression(pattern=pattern)

    def _names(self, first: Token) -> Names:
        """Read the rest of a comma list, in which every word is a name."""
        found = [first]
        while self._accept(","):
            found.append(self.expect("word", "a name after the comma"))
        for token in found:
            if ":" in token.text:
                raise self._error(token, "plain names between commas: join roles with +")
        return Names(names=tuple(dict.fromkeys(token.text for token in found)))

    def _word(self, token: Token) -> Role | Names:
        tower, colon, rest = token.text.partition(":")
        if not colon:
            return role_of(token.text) or Names(names=(token.text,))
        if tower not in TOWERS:
            raise self._error(token, f"a tower before the colon, or name: or re:{_near(tower, TOWERS)}")
        if not rest:
            return Role(tower=tower)
        block, _, part = rest.partition(".")
        if block not in BLOCKS:
            place = replace(token, position=token.position + len(tower) + 1)
            raise self._error(place, f"a block after {tower}:{_near(block, BLOCKS)}")
        return Role(tower=tower, block=block, part=part or None)

    def _layers(self, token: Token) -> Layers:
        ranges, first, last, parity, offset = [], 0, 0, set(), 1
        for item in token.text.split(","):
            place = replace(token, position=token.position + offset)
            offset += len(item) + 1
            match = _ITEM.fullmatch(item)
            if match is None:
                raise self._error(place, "layers such as 0-7, 0,3,5, last:8, first:4, odd or even")
            if match["low"]:
                low, high = int(match["low"]), int(match["high"] or match["low"])
                if low > high:
                    raise self._error(place, f"the lower layer first: {high}-{low}")
                ranges.append((low, high))
            elif match["end"] == "first":
                first = max(first, self._size(place, match["size"]))
            elif match["end"] == "last":
                last = max(last, self._size(place, match["size"]))
            else:
                parity.add(int(match["parity"] == "odd"))
        return Layers(ranges=_merged(ranges), first=first, last=last, parity=frozenset(parity))

    def _size(self, place: Token, digits: str) -> int:
        if int(digits) == 0:
            raise self._error(place, "at least one layer")
        return int(digits)

    def _accept(self, *kinds: str) -> Token | None:
        token = self._tokens[self._next]
        if token.kind not in kinds:
            return None
        self._next += token.kind != "end"
        return token

    def _error(self, token: Token, expected: str) -> TargetSyntaxError:
        return TargetSyntaxError(text=self._text, position=token.position, expected=expected)


def role_of(word: str) -> Role | None:
    """Return the role that `word` says, None where it is a name."""
    block, dot, part = word.partition(".")
    if block not in BLOCKS or (dot and part not in PARTS.get(block, ())):
        return None
    return Role(block=block, part=part or None)


def _flattened(terms: Sequence[Term]) -> Iterator[Term]:
    """Yield `terms` without brackets that change nothing: around the first, or around what is only added."""
    for index, term in enumerate(terms):
        inner = term.selector
        if not isinstance(inner, TargetSpec) or term.layers or term.removes:
            yield term
        elif index == 0 or not any(each.removes for each in inner.terms):
            yield from inner.terms
        else:
            yield term


def _near(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = get_close_matches(word, names, n=3)
    return f"; close: {', '.join(close)}" if close else f", one of {', '.join(names)}"


def _merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return `ranges` sorted, with those that touch made one."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)
