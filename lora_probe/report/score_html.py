"""Scores as HTML: a fragment for notebooks, and a page to send to a colleague."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.report.score_wording import (
    HEAT_TITLES,
    TITLES,
    figure,
    role_cells,
    role_name,
    score_facts,
    score_notes,
)
from lora_probe.report.strips import Cell, Strip
from lora_probe.report.templating import environment
from lora_probe.scoring.heat import heat_maps
from lora_probe.scoring.records import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.scoring.heat import HeatMap
    from lora_probe.scoring.proposals import ProposedSet
    from lora_probe.scoring.records import Scores

__all__ = ["score_fragment", "score_page"]

_COLOR = "#4477aa"
"""Of all roles: their cells are to be compared with each other."""
_FAINTEST = 0.06
"""Opacity of the last cell to adapt: seen to be there."""


def score_fragment(scores: Scores) -> str:
    """Return a ``<div>`` with the roles, heat maps and notes, in the colours of the page around it."""
    return environment().get_template("score.html.j2").render(_context(scores))


def score_page(scores: Scores, proposals: Sequence[ProposedSet] = ()) -> str:
    """Return a document without scripts or links: the fragment, and the sets to try."""
    page = environment().get_template("score_page.html.j2")
    return page.render(_context(scores, proposals), versions=scores.versions)


def _context(scores: Scores, proposals: Sequence[ProposedSet] = ()) -> dict[str, Any]:
    """Return what the templates may name."""
    maps = heat_maps(scores)
    return {
        "scores": scores,
        "facts": score_facts(scores),
        "titles": TITLES,
        "cells": role_cells,
        "name": role_name,
        "maps": [(each, _strips(each)) for each in maps],
        "heat_titles": HEAT_TITLES,
        "several": len({each.tower for each in maps}) > 1,
        "proposals": proposals,
        "notes": list(score_notes(scores)),
    }


def _strips(info: HeatMap) -> list[Strip]:
    """Return the roles of a map: the stronger the colour, the sooner to be adapted."""
    return [
        Strip(role=role, color=_COLOR, cells=tuple(_cells(info, role, values)))
        for role, values in zip(info.roles, info.values, strict=True)
    ]


def _cells(info: HeatMap, role: str, values: Sequence[float | None]) -> Iterator[Cell]:
    """Yield a cell for each layer in which the role has a module."""
    for place, (layer, value) in enumerate(zip(info.layers, values, strict=True)):
        share = info.share(value)
        if share is not None:
            number = f"{value:.3f}" if info.signal is Signal.NFN else figure(value)
            opacity = round(_FAINTEST + (1 - _FAINTEST) * share, 3)
            yield Cell(x=place, opacity=opacity, title=f"{role}, layer {layer}: {number}")
