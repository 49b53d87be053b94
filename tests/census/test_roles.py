"""What must hold for the roles of every model type of the installed transformers."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from lora_probe.roles import Place, assign_roles
from lora_probe.roles.vocabulary import BLOCKS, PARTS, TOWERS
from tests.census import graphs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe import ModuleGraph, Site

pytestmark = pytest.mark.census

_CLOSED = frozenset({"attention", "cross_attention", "mlp", "experts", "shared_experts", "ssm"})
"""Blocks in which every weight has a standard part."""
_QUERIES = ("q", "qkv", "qk", "q_up", "q_gate")
_OUTPUTS = ("o", "o_up")
_NO_PAIRS = frozenset({
    "grounding-dino", "mm-grounding-dino",  # one attention in both directions: two values, two outputs
    "luke",  # words and entities have queries of their own, for each other and for themselves
    "swiftformer",  # additive attention has two matrices behind it
    "clvp", "aria",  # attention around a MultiheadAttention: projected twice
    "zaya",  # values of two times
})  # fmt: skip
"""Types whose attention really has no single query matrix for its output matrix."""
_AGREEMENT = 0.99


def test_roles_are_complete_and_lawful() -> None:
    """Every site has known words, none is other, standard blocks have standard parts, and shapes fit them.

    Names and shapes alone, as in a checkpoint's header, give nearly the same answer.
    """
    broken: defaultdict[str, list[str]] = defaultdict(list)
    same = sites = 0
    for model_type, graph in graphs():
        broken[model_type] += [*_unknown(graph), *_unlawful(model_type, graph)]
        named = _by_names(graph)
        sites += len(graph)
        same += sum(
            (site.block, site.part) == (role.block, role.part)
            for site, role in zip(graph, named, strict=True)
        )
    assert not {model_type: found[:3] for model_type, found in broken.items() if found}
    assert same >= _AGREEMENT * sites


def _unknown(graph: ModuleGraph) -> Iterator[str]:
    """Yield sites with words outside of the vocabulary, or without a word."""
    for site in graph:
        if site.tower not in TOWERS or site.block not in BLOCKS or site.block == "other":
            yield f"{site.parameter}: {site.role}"
        if site.block in _CLOSED and site.part not in PARTS[site.block]:
            yield f"{site.parameter}: {site.role} is no standard part"


def _unlawful(model_type: str, graph: ModuleGraph) -> Iterator[str]:
    """Yield the layers in which parts do not fit together."""
    layers: defaultdict[tuple[str, str, str], list[Site]] = defaultdict(list)
    for site in graph:
        within = re.match(r"(.*\.\d+)\.", f".{site.path}")
        if within:
            layers[within[1], site.tower, site.block].append(site)
    for (path, tower, block), sites in layers.items():
        count = Counter(site.part for site in sites)
        if block in {"attention", "cross_attention"} and model_type not in _NO_PAIRS:
            queries, outputs = (sum(count[part] for part in parts) for parts in (_QUERIES, _OUTPUTS))
            if queries != outputs and not count["offsets"] and tower != "connector":
                yield f"{path}: {queries} queries, {outputs} outputs"
        if block in {"mlp", "experts", "shared_experts"}:
            if count["up"] + count["gate_up"] != count["down"]:
                yield f"{path}: {dict(count)}"
            yield from _misfits(path, sites)


def _misfits(path: str, sites: list[Site]) -> Iterator[str]:
    """Yield pairs of feed-forward matrices that cannot follow each other, convolutions left out."""
    matrices = [site for site in sites if site.kind.value in {"linear", "conv1d", "expert_parameter"}]
    ups = [site for site in matrices if site.part in {"up", "gate_up"}]
    downs = [site for site in matrices if site.part == "down"]
    for up, down in zip(ups, downs, strict=False):
        width = up.out_features // 2 if up.part == "gate_up" else up.out_features
        if len(ups) == len(downs) and width != down.in_features:
            yield f"{path}: {up.parameter} writes {width}, {down.parameter} reads {down.in_features}"


def _by_names(graph: ModuleGraph) -> list[object]:
    """Return the roles that names and shapes alone give."""
    places = [
        Place(
            path=site.path,
            classes=("",) * (site.path.count(".") + 2 if site.path else 1),
            parameter=site.parameter.removeprefix(f"{site.path}.") if site.path else site.parameter,
            kind=site.kind,
            in_features=site.in_features,
            out_features=site.out_features,
            experts=site.experts,
        )
        for site in graph
    ]
    return [*assign_roles(places, model_type="", architecture="")]
