"""Reads the truth about roles that was written down by hand, and writes a graph in the same way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe import Kind

if TYPE_CHECKING:
    from lora_probe import ModuleGraph

__all__ = ["TRUTH", "rows", "truth"]

TRUTH = Path(__file__).parent / "golden" / "roles.txt"
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
_EXPERT = re.compile(r"(?<=\.expert_)\d+")

_BARE = {Kind.EXPERT_PARAMETER, Kind.MATRIX_PARAMETER, Kind.PACKED_ATTENTION}
"""Kinds of weights that the file calls by their own name, not by their module's."""
Row = tuple[str, str, str]
"""Where the weight stands, its name, its role."""


def truth() -> dict[str, frozenset[Row]]:
    """Return the rows of each model type in the file."""
    types: dict[str, set[Row]] = {}
    for line in TRUTH.read_text("utf-8").splitlines():
        if line.startswith("["):
            current = types.setdefault(line.strip("[]"), set())
        elif line and not line.startswith("#"):
            where, tower_block, weights = line.split(" | ")
            for weight in weights.split():
                name, _, part = weight.rpartition("=")
                current.add((where, name, f"{tower_block}.{part}"))
    return {model_type: frozenset(found) for model_type, found in types.items()}


def rows(graph: ModuleGraph, *, known: frozenset[Row]) -> frozenset[Row]:
    """Return the rows of `graph`; entries of a list are any number where `known` says so."""
    any_entry = {(where, role) for where, name, role in known if name == "*"}
    found = set()
    for site in graph:
        bare = site.kind in _BARE and not site.parameter.endswith(".weight")
        above, _, name = (site.parameter if bare else site.path).rpartition(".")
        where = _EXPERT.sub("*", _NUMBER.sub("*", above)) or "-"
        found.add((where, "*" if name.isdigit() and (where, site.role) in any_entry else name, site.role))
    return frozenset(found)
