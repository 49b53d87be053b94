"""Find a model of the catalogue by its id, or the ids that look like a mistyped one."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.catalog.records import Entry, Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["data_files", "entries", "find", "near"]

_IDS = re.compile(r'\{"id":"([^"]+)","aliases":\[([^\]]*)\]')
"""How each line begins: ids are read from here, so that looking one up parses only the line that has it."""
_ALIKE = 0.6
"""Least similarity (0 to 1, :class:`difflib.SequenceMatcher`) of a suggestion; difflib's own default."""


def find(model_id: str) -> Entry | None:
    """Return the entry of a hub id, whatever its case, or None; ids that the hub redirects are found too.

    A bare name is an id only where the hub itself has it (``gpt2``): nothing is guessed, see :func:`near`.
    """
    line = _lines().get(model_id.casefold())
    return None if line is None else Entry.from_line(line)


def near(model_id: str, n: int = 5) -> tuple[str, ...]:
    """Return at most `n` ids of the catalogue that look like `model_id`, the most alike first.

    Without an owner (``llama-3.1-8b``) only the names are compared; case and hyphens never count. Of
    models that are equally alike, originals come before copies and fine-tunes.
    """
    wanted = _halves(model_id)
    alike: list[tuple[float, Entry]] = []
    for line in dict.fromkeys(_lines().values()):
        score = max(_likeness(*wanted, name) for name in _names(line))
        if score >= _ALIKE:
            alike.append((score, Entry.from_line(line)))
    alike.sort(key=lambda each: (-each[0], _is_copy(each[1]), each[1].model_id))
    return tuple(entry.model_id for _, entry in alike[:n])


def entries() -> tuple[Entry, ...]:
    """Return every entry, by family and then by id."""
    return tuple(Entry.from_line(line) for line in dict.fromkeys(_lines().values()))


def data_files() -> tuple[Path, ...]:
    """Return the data files, one a family, in the order of their names."""
    return tuple(sorted((Path(__file__).parent / "data").glob("*.jsonl")))


@cache
def _lines() -> Mapping[str, str]:
    """Map each id and alias, case folded, to its line."""
    lines = (line for path in data_files() for line in path.read_text("utf-8").splitlines())
    return {name.casefold(): line for line in lines for name in _names(line)}


def _names(line: str) -> list[str]:
    """Return the id and the aliases of a line."""
    match = _IDS.match(line)
    if match is None:
        raise ValueError(f"not a line of the catalogue: {line[:60]!r}")
    return [match[1], *re.findall(r'"([^"]+)"', match[2])]


def _likeness(owner: str, name: str, other_id: str) -> float:
    """Return how alike two ids are, from 0 to 1; the owner counts a quarter where one is given."""
    other_owner, other_name = _halves(other_id)
    names = SequenceMatcher(None, name, other_name, autojunk=False).ratio()
    if name and other_name.startswith(name):
        names = (2 + names) / 3  # the start of a name is more often meant than a name of equal length
    if not owner:
        return names
    return (3 * names + SequenceMatcher(None, owner, other_owner, autojunk=False).ratio()) / 4


def _is_copy(entry: Entry) -> bool:
    return entry.provenance.evidence is Evidence.DERIVATIVE


def _halves(model_id: str) -> tuple[str, str]:
    """Return owner (empty where none is given) and name, case folded, no separator but the dot of 1.3b."""
    owner, _, name = model_id.casefold().rpartition("/")
    return re.sub(r"[^\w.]|_", "", owner), re.sub(r"[^\w.]|_", "", name)
