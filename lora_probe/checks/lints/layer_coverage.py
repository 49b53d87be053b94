"""Layers that the targets leave out, mostly because a hybrid model calls their projections otherwise."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Kind
from lora_probe.patterns import index_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case
    from lora_probe.graph import Site

_HALF = 0.5


def _examine(case: Case) -> Iterator[Hit]:
    if not case.sites or case.settings.layers_to_transform is not None or case.chooses_layers:
        return
    layers: defaultdict[str, set[int]] = defaultdict(set)
    covered: defaultdict[str, set[int]] = defaultdict(set)
    for site in case.graph.sites:
        if site.layer is not None and site.adaptable is not None:
            layers[site.tower].add(site.layer)
    for site in case.sites:
        if (
            site.layer is not None and site.kind is not Kind.EMBEDDING
        ):  # a bias of positions is no layer's work
            covered[site.tower].add(site.layer)
    for tower, reached in covered.items():
        holes = sorted(layers[tower] - reached)
        if not holes:
            continue
        share = len(reached) / len(layers[tower])
        left = [
            site
            for site in case.graph.sites
            if site.tower == tower and site.layer in holes and site.adaptable is not None
        ]
        unsafe = case.bypassed[0] | case.bypassed[1]
        names = tuple(
            dict.fromkeys(site.name for site in left if _is_usual(site) and site.path not in unsafe)
        )
        yield Hit(
            severity=Severity.WARNING if share < _HALF else Severity.INFO,
            message=f"{len(reached)} of {len(layers[tower])} layers of the {tower} tower ({share:.0%}) get "
            f"an adapter; layers {index_text(holes)} get none",
            paths=tuple(dict.fromkeys(site.path for site in left)),
            fix=f"the layers without an adapter have {quoted(names)}",
        )


def _is_usual(site: Site) -> bool:
    """Tell whether `site` is a layer that people adapt: no convolution, no router, no bare parameter."""
    return site.kind in {Kind.LINEAR, Kind.CONV1D} and site.block != "router"


RULE = Rule(
    name="layer-coverage",
    severity=Severity.WARNING,
    happens="Only some of the layers are trained. In hybrids of attention and state-space layers the usual "
    "attention names reach 7 to 25 % of the layers, and the loss hardly moves.",
    why="q_proj and its like exist only in the attention layers; the other layers have in_proj, out_proj and "
    "names of their own.",
    fix="Add the names of the other layers' projections.",
    sources=("huggingface/peft#3554", "huggingface/trl#6773", "huggingface/peft#3669"),
    examine=_examine,
)
