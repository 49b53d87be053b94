"""What a person may have meant by a target that matches nothing."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from lora_probe.graph import Adaptable
from lora_probe.targets.grammar import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.graph import Site

__all__ = ["near_targets"]

_SHOWN = 8
"""Near misses in one sentence."""
_LONGEST = 200
"""Characters of what was wanted that are compared: no name has more."""


def near_targets(wanted: str, sites: Iterable[Site]) -> list[str]:
    """Return roles and names of `sites` that are written much like `wanted`, or stand in its place.

    For a block that the model lacks, these are the blocks that it has; for a part, the block's other parts.
    """
    adaptable = [site for site in sites if site.adaptable]
    word = wanted.removeprefix("name:")
    role = role_of(word)
    if role and not role.part:
        return list(dict.fromkeys(site.block for site in adaptable))[:_SHOWN]
    word = word[:_LONGEST].casefold()
    known: dict[str, None] = {}
    for site in adaptable:
        known[site.name if site.adaptable is Adaptable.MODULE else f"name:{site.name}"] = None
        known[f"{site.tower}:"] = None
        tower = f"{site.tower}:" if ":" in word else ""
        known[f"{tower}{site.block}"] = known[f"{tower}{site.block}.{site.part}"] = None
    spelled = {each.casefold(): each for each in known}
    close = [spelled[each] for each in get_close_matches(word, spelled, n=4, cutoff=0.5)]
    block = word.partition(".")[0]
    close += [each for each in known if each.startswith(f"{block}.")]
    return list(dict.fromkeys(close))[:_SHOWN]
