"""Module names of an older transformers or of a checkpoint, and what they are called now.

The data is derived from the conversion rules under which transformers loads old checkpoints; a test holds
it against the installed version. A new name is offered only where the model has it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules.matching import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.graph import ModuleGraph

__all__ = ["new_names", "rewritten_pattern"]

_LAST_CHOICE = re.compile(r"(.*\.)\((?:\?:)?(\w+(?:\|\w+)*)\)\$?")
"""An expression that ends with a choice of names, ``(query|value)``."""
_NAME_AT_END = re.compile(r"\w+$")


def new_names(graph: ModuleGraph, name: str) -> tuple[str, ...]:
    """Return the entries of `target_modules` that mean today what `name` meant; empty if not renamed."""
    found: dict[str, None] = {}
    paths = _adaptable_paths(graph)
    for old, news in _renames_of(graph):
        if _same_end(name, old):
            found.update(dict.fromkeys(_shortest(new, paths) for new in news if _ending(new, paths)))
        elif "." in name and (moved := _replaced(name, old, news[0])) != name and _ending(moved, paths):
            found[moved] = None
    return tuple(found)


def rewritten_pattern(graph: ModuleGraph, pattern: str) -> str | None:
    """Return the regular expression `pattern` with renamed parts renamed, if that matches something."""
    paths = _adaptable_paths(graph)
    pairs = sorted(_renames_of(graph), key=lambda pair: -len(pair[0]))
    segments = {segment for module in graph.modules for segment in module.path.split(".")}
    alternatives = _LAST_CHOICE.fullmatch(pattern)
    parts = [f"{alternatives[1]}{name}" for name in alternatives[2].split("|")] if alternatives else [pattern]
    found = [_rewritten(part, pairs, segments, paths) for part in parts]
    if None in found:
        return None
    changed = list(dict.fromkeys(each for each in found if each is not None))
    if len(changed) == 1:
        return changed[0]
    starts = {_NAME_AT_END.sub("", each) for each in changed}
    if len(starts) > 1:
        return f"({'|'.join(changed)})"
    start = starts.pop()
    return f"{start}({'|'.join(each.removeprefix(start) for each in changed)})"


def _rewritten(
    pattern: str, pairs: Sequence[tuple[str, Sequence[str]]], segments: set[str], paths: Sequence[str]
) -> str | None:
    """Return `pattern` with whole names replaced, or else with last segments that the model does not have."""
    whole = loose = pattern
    for old, news in pairs:
        whole = _replaced(whole, old, news[0])
    for old, news in pairs:
        if (leaf := old.rpartition(".")[2]) not in segments:
            loose = _replaced(loose, leaf, news[0].rpartition(".")[2])
    return next((each for each in (whole, loose) if each != pattern and _matches(each, paths)), None)


def _renames_of(graph: ModuleGraph) -> Iterator[tuple[str, Sequence[str]]]:
    keys = {graph.model_type, graph.architecture, *(module.class_name for module in graph.modules)}
    for key in sorted(keys & _table().keys()):
        yield from _table()[key].items()


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, Sequence[str]]]:
    text = resources.files("lora_probe.checks").joinpath("data/renames.json").read_text(encoding="utf-8")
    return {key: group["names"] for group in json.loads(text) for key in group["of"]}


def _adaptable_paths(graph: ModuleGraph) -> list[str]:
    return [site.path for site in graph.sites if site.adaptable is not None]


def _same_end(name: str, old: str) -> bool:
    """Tell whether one of the two is how the other ends."""
    return name == old or old.endswith(f".{name}") or name.endswith(f".{old}")


def _ending(end: str, paths: Sequence[str]) -> bool:
    return any(path == end or path.endswith(f".{end}") for path in paths)


def _shortest(new: str, paths: Sequence[str]) -> str:
    """Return the last segment of `new` where it names the same modules as the whole of it."""
    leaf = new.rpartition(".")[2]
    same = [path for path in paths if path == leaf or path.endswith(f".{leaf}")]
    return leaf if all(_ending(new, [path]) for path in same) else new


def _replaced(text: str, old: str, new: str) -> str:
    """Replace `old`, as a whole name, in both of the ways in which an expression writes its dots."""
    either = f"{re.escape(re.escape(old))}|{re.escape(old)}"
    written = re.escape(new) if "\\." in text else new
    return re.sub(rf"(?<!\w)({either})(?!\w)", lambda _match: written, text)


def _matches(pattern: str, paths: Sequence[str]) -> bool:
    try:
        matches = compiled(pattern, field="target_modules").fullmatch
    except PeftRefusal:
        return False
    return any(map(matches, paths))
