"""Which modules a ``quantization_config`` leaves unpacked, told by the name patterns that it lists.

Patterns are other people's regular expressions, so they are never run: names, wildcards and alternatives are
understood and matched in linear time; a pattern with anything else makes the list as a whole not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Names", "exempt_names"]

_FIELDS = (
    "modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "llm_int8_skip_modules",
    "skip_modules", "linear_weights_not_to_quantize",
)  # fmt: skip
"""Where the methods list what they leave alone."""
_WILDCARDS = re.compile(r"\.\*|\.\+|\\d\+|\[0-9\]\+|\*")
_CHOICE = re.compile(r"\((?:\?:)?([^()]*)\)")
_NOT_UNDERSTOOD = re.compile(r"[\[\]{}()+?\\^$|]")
_MOST_CHOICES = 64
_WRAPPERS = frozenset({"model", "language_model"})
"""Leading segments that were renamed between releases of transformers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """A set of module names: literal ones and ones with wildcards."""

    literal: frozenset[str]
    globs: tuple[tuple[str, ...], ...]
    """The literal pieces between the wildcards of each pattern."""

    def __contains__(self, path: str) -> bool:
        """Tell whether `path`, or what holds it, is named: from the start to a dot, or by its end.

        This is transformers' rule (`should_convert_module` in quantizers/quantizers_utils.py).
        """
        return any(self._names(name) for name in {path, _without_wrappers(path)})

    def _names(self, name: str) -> bool:
        if name.endswith(tuple(self.literal)) or any(_matches(pieces, name) for pieces in self.globs):
            return True
        return any(prefix in self.literal for prefix in _prefixes(name))


def exempt_names(config: Mapping[str, Any]) -> Names | None:
    """Return what the lists of `config` name, None where no list is given.

    Raises:
        ValueError: a list holds something other than names and the patterns that are understood.

    """
    lists = [config[field] for field in _FIELDS if config.get(field) is not None]
    dynamic = config.get("dynamic")  # GPTQModel: "-:pattern" leaves out
    if isinstance(dynamic, dict):
        lists.append([key[2:] for key in dynamic if isinstance(key, str) and key.startswith("-:")])
    if not lists:
        return None
    return _names(tuple(pattern for each in lists for pattern in _texts(each)))


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("expected a list of names")
    return value


@lru_cache(maxsize=8)
def _names(patterns: tuple[str, ...]) -> Names:
    literal: set[str] = set()
    globs: list[tuple[str, ...]] = []
    for pattern in patterns:
        for glob in _expanded(pattern.removeprefix("re:").removeprefix("^").removesuffix("$")):
            for text in {glob, _without_wrappers(glob)} - {""}:
                if "*" in text:
                    globs.append(tuple(text.split("*")))
                else:
                    literal.add(text)
    return Names(literal=frozenset(literal), globs=tuple(globs))


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the globs that `pattern` stands for: every choice of its alternatives, wildcards as ``*``."""
    text = _WILDCARDS.sub("*", pattern.replace(r"\.", "."))
    choices = _CHOICE.split(text)
    alternatives = [part.split("|") if index % 2 else [part] for index, part in enumerate(choices)]
    count = 1
    for options in alternatives:
        count *= len(options)
    if count > _MOST_CHOICES:
        raise ValueError("too many alternatives")
    for parts in product(*alternatives):
        glob = "".join(parts)
        if _NOT_UNDERSTOOD.search(glob):
            raise ValueError("no name pattern that is understood")
        yield glob


def _matches(pieces: tuple[str, ...], name: str) -> bool:
    """Tell whether a glob matches `name` from its start to a dot or its end."""
    first, *middle, last = pieces
    if not name.startswith(first):
        return False
    position = len(first)
    for piece in middle:
        position = name.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    if not last:
        return True
    while (position := name.find(last, position)) >= 0:
        position += len(last)
        if position == len(name) or "." in {last[-1], name[position]}:
            return True
    return False


def _prefixes(name: str) -> Iterable[str]:
    """Yield `name` and all that it stands below."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _without_wrappers(name: str) -> str:
    segments = name.split(".")
    start = next((index for index, each in enumerate(segments) if each not in _WRAPPERS), len(segments))
    return ".".join(segments[start:])
