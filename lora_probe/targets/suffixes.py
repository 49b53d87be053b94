"""The shortest list of names that PEFT reads as exactly the wanted ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lora_probe.peft_rules.inventory import ends

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["shortest_suffixes"]


def shortest_suffixes(wanted: Sequence[str], names: Iterable[str]) -> tuple[str, ...] | None:
    """Return the fewest names of which each wanted one, and no other of `names`, equals or ends with one.

    `names` holds the wanted ones. For each of these, the shortest of its ends that is the end of wanted
    names only is needed, and covers whatever a longer one would: together they are the least there can be.
    In order of first use; None where the whole of a wanted name is the end of another.
    """
    leaves = {name.rpartition(".")[2] for name in wanted}
    among_all = Counter(end for name in names if name.rpartition(".")[2] in leaves for end in ends(name))
    among_wanted = Counter(end for name in wanted for end in ends(name))
    found: dict[str, None] = {}
    for name in wanted:
        exact = [end for end in ends(name) if among_all[end] == among_wanted[end]]
        if not exact:
            return None
        found[exact[-1]] = None
    return tuple(found)
