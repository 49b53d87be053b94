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
from lora_probe.report.templating import environment
from lora_probe.scoring.heat import heat_maps
from lora_probe.scoring.records import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.scoring.heat import HeatMap
    from lora_probe.scoring.proposals import ProposedSet
    from lora_probe.scoring.records import Scores

__all__ = ["score_fragment", "score_page"]

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
    return {
        "scores": scores,
        "facts": score_facts(scores),
        "titles": TITLES,
        "cells": role_cells,
        "name": role_name,
        "maps": heat_maps(scores),
        "heat_titles": HEAT_TITLES,
        "heat_cells": _heat_cells,
        "several": len({each.tower for each in heat_maps(scores)}) > 1,
        "proposals": proposals,
        "notes": list(score_notes(scores)),
    }


def _heat_cells(info: HeatMap, place: int) -> Iterator[tuple[float | None, str]]:
    """Yield opacity and title of each cell of one role; no opacity where there is no module."""
    role = info.roles[place]
    for layer, value in zip(info.layers, info.values[place], strict=True):
        share = info.share(value)
        if share is None:
            yield None, ""
        else:
            number = f"{value:.3f}" if info.signal is Signal.NFN else figure(value)
            yield round(_FAINTEST + (1 - _FAINTEST) * share, 3), f"{role}, layer {layer}: {number}"
