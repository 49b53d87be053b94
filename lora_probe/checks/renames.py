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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.graph import ModuleGraph

__all__ = ["new_names", "rewritten_pattern"]


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
    changed = pattern
    for old, news in sorted(_renames_of(graph), key=lambda pair: -len(pair[0])):
        changed = _replaced(changed, old, news[0])
        leaf, new_leaf = old.rpartition(".")[2], news[0].rpartition(".")[2]
        if leaf != new_leaf:
            changed = _replaced(changed, leaf, new_leaf)
        if changed != pattern and _matches(changed, paths):
            return changed
    return None


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
    for before, after in ((re.escape(old), re.escape(new)), (old, new)):
        text = re.sub(rf"(?<!\w){re.escape(before)}(?!\w)", after.replace("\\", r"\\"), text)
    return text


def _matches(pattern: str, paths: Sequence[str]) -> bool:
    try:
        matches = re.compile(pattern).fullmatch
    except (re.error, RecursionError, OverflowError):
        return False
    return any(map(matches, paths))
