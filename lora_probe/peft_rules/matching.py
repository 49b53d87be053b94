"""Which module paths PEFT's `target_modules`, `exclude_modules`, `modules_to_save` and layers select.

The rules are those of `check_target_module_exists` in peft/tuners/tuners_utils.py (0.21).
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules.inventory import ends

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from lora_probe.peft_rules.inventory import Names
    from lora_probe.peft_rules.settings import LoraSettings

__all__ = ["compiled", "condensed", "excluded_paths", "layer_index", "matched_paths", "pattern_key"]

_CONDENSED_FROM = 20
"""Length from which PEFT replaces names by short suffixes (`MIN_TARGET_MODULES_FOR_OPTIMIZATION`)."""
_FIRST_INDEX = re.compile(r".*?\.[^.]*\.(?P<idx>\d+)\.")


def compiled(pattern: str, *, field: str) -> re.Pattern[str]:
    """Return `pattern` compiled.

    Raises:
        PeftRefusal: it is no regular expression.

    """
    try:
        with warnings.catch_warnings():
            # What a later Python may read otherwise, such as [[, is no concern of people who name layers.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PeftRefusal(rule="regex", reason=f"{field} holds no regular expression: {error}") from error


def excluded_paths(settings: LoraSettings, names: Names) -> frozenset[str]:
    """Return the names that `exclude_modules` or `modules_to_save` keep from being adapted."""
    lost: set[str] = set()
    if isinstance(settings.exclude_modules, str):
        lost.update(filter(_full_match(settings.exclude_modules, field="exclude_modules"), names))
    elif settings.exclude_modules:
        lost.update(names.ending_with(settings.exclude_modules))
    for entry in settings.modules_to_save:
        saved = compiled(rf"(^|.*\.){entry}($|\..*)", field="modules_to_save").match
        lost.update(name for name in names if saved(name))
    return frozenset(lost)


def matched_paths(settings: LoraSettings, names: Names) -> list[str]:
    """Return, in order, the names that `target_modules` and the layers select; nothing is excluded here."""
    target = settings.target_modules
    if target is None:
        return []
    if isinstance(target, str):
        return list(filter(_full_match(target, field="target_modules"), names))
    found = names.ending_with(target)
    layers = settings.layers_to_transform
    if layers is None or layers == ():
        return found
    wanted = {layers} if isinstance(layers, int) else set(layers)
    exact = frozenset(target)
    # A name given in full is taken whatever its layer: PEFT looks at layers only where a suffix matched.
    return [name for name in found if name in exact or layer_index(name, settings.layers_pattern) in wanted]


def condensed(target: Collection[str], names: Names) -> frozenset[str]:
    """Return the shorter list of suffixes that PEFT puts in the place of 20 names or more.

    It selects the same modules, except that layers then apply to names that were given in full.
    """
    given = frozenset(target)
    if len(given) < _CONDENSED_FROM:
        return given
    if "" in given:
        raise PeftRefusal(rule="empty-name", reason="target_modules holds an empty name")
    matched = set(names.ending_with(given))
    taken = {end for name in names if name not in matched for end in ends(name)}
    kept: set[str] = set()
    for name in sorted(given, key=_growing):
        for suffix in _growing(name):
            if suffix in kept or suffix in taken:
                continue
            if not any(end in kept for end in ends(name) if end != name):
                kept.add(suffix)
                break
    return frozenset(kept) if kept and len(kept) < len(given) else given


def pattern_key(patterns: Iterable[str], name: str) -> str | None:
    """Return the first key of a rank or alpha pattern that applies to `name` (`get_pattern_key`)."""
    for key in patterns:
        if compiled(rf"(.*\.)?({key})$", field="rank_pattern").match(name):
            return key
    return None


def _full_match(pattern: str, *, field: str) -> Callable[[str], re.Match[str] | None]:
    return compiled(pattern, field=field).fullmatch


def layer_index(name: str, layers_pattern: tuple[str, ...] | str | None = None) -> int | None:
    """Return the layer that PEFT takes `name` to lie in, None where it finds none.

    That is the first numbered segment after the name of the repeated layers, which must itself follow a dot;
    or, with a pattern, after what that matches.
    """
    if not layers_pattern:
        match = _FIRST_INDEX.match(name)
        return int(match["idx"]) if match else None
    patterns = (layers_pattern,) if isinstance(layers_pattern, str) else layers_pattern
    for each in patterns:
        start = compiled(rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\.", field="layers_pattern")
        if match := start.match(name):
            index = match.groupdict().get("idx")
            return None if index is None else int(index)
    return None


def _growing(name: str) -> list[str]:
    """Return the suffixes of `name`, the last segment first."""
    return list(ends(name))[::-1]
