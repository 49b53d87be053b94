"""Laws that hold for every model type of the installed transformers, gathered while each is built once."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import pytest

from lora_probe import Kind, scan
from lora_probe.scanner.headers import graph_of_headers
from tests.census import models, saved_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from lora_probe import ModuleGraph, Site

pytestmark = pytest.mark.census

_STORED_OUT_IN = {Kind.LINEAR, Kind.PACKED_ATTENTION}
_STORED_IN_OUT = {Kind.EMBEDDING, Kind.CONV1D}
_NEEDED_LIBRARIES = ("timm", "torchaudio", "natten", "detectron2")
_KNOWN_REFUSALS = frozenset({
    "gemma4_assistant",  # no default config passes both of its own checks
    "gemma4_unified_assistant",
    "pp_ocrv6_medium_det",  # its block's kernel sizes have no default
    "voxtral_realtime_text",  # its class is registered but not exported
})  # fmt: skip


@dataclass
class Gathered:
    """What one pass over all model types finds."""

    built: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a type was not built, by model type."""
    violations: dict[str, list[str]] = field(default_factory=dict)
    """What a scan says against the model itself, by model type."""
    weights: int = 0
    same_sides: int = 0
    """Weights whose sides a checkpoint's header tells as the module does."""
    same_kind: int = 0

    def compare(self, built: ModuleGraph, read: ModuleGraph) -> None:
        """Count what a graph from headers says as the graph of the built model does."""
        by_name = {site.parameter: site for site in read}
        for site in built:
            if site.tied_to:
                continue
            found = by_name.get(site.parameter)
            self.weights += 1
            self.same_sides += found is not None and _sides(found) == _sides(site)
            self.same_kind += found is not None and found.kind is site.kind


@pytest.fixture(scope="module")
def gathered() -> Gathered:
    """Build and scan every model type once."""
    result = Gathered()
    for model_type, model in models(reasons=result.reasons):
        result.built += 1
        graph = scan(model)
        if found := list(_violations(model, graph)):
            result.violations[model_type] = found[:3]
        read = graph_of_headers(saved_tensors(model), model.config.to_dict(), model="", source="")
        result.compare(graph, read)
    return result


def test_every_type_is_counted_exactly(gathered: Gathered) -> None:
    """Each parameter of each model stands in one site or is uncovered, and the sizes add up to its total."""
    assert gathered.violations == {}


def test_nearly_every_type_is_built(gathered: Gathered) -> None:
    """Types are missing for want of a class or a library, or are known to have no default that builds."""
    assert gathered.built >= 580
    assert not {
        name
        for name, reason in gathered.reasons.items()
        if name not in _KNOWN_REFUSALS
        and not reason.startswith("no causal LM")
        and not any(library in reason for library in _NEEDED_LIBRARIES)
    }


def test_headers_tell_nearly_everything(gathered: Gathered) -> None:
    """Names and shapes tell the sides of 98 in 100 weights of all model types, and the kinds of 96."""
    assert gathered.same_sides / gathered.weights > 0.98
    assert gathered.same_kind / gathered.weights > 0.96


def _sides(site: Site) -> tuple[int, int, int]:
    return site.in_features, site.out_features, site.experts


def _violations(model: nn.Module, graph: ModuleGraph) -> Iterator[str]:
    """Yield what the scan says against the model's own count of its parameters."""
    named = {
        f"{path}.{name}" if path else name: parameter
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    }
    total = sum(parameter.numel() for parameter in model.parameters())
    if graph.total_parameters != total:
        yield f"total {graph.total_parameters}, the model has {total}"
    listed = [*(site.parameter for site in graph), *(item.parameter for item in graph.uncovered)]
    if len(set(listed)) != len(listed) or not set(listed) <= set(named):
        yield "a parameter is listed twice or does not exist"
    if others := set(named) - set(listed) - {site.bias for site in graph}:
        yield f"neither listed nor the bias of a site: {sorted(others)[:3]}"
    if [module.path for module in graph.modules] != [path for path, _ in model.named_modules()]:
        yield "the modules are not those of named_modules()"
    for site in graph:
        shape = tuple(named[site.parameter].shape)
        if prod(_sides(site)) != prod(shape):
            yield f"{site.parameter} of {shape} is {site.in_features} -> {site.out_features}"
        if not _is_oriented(site, shape):
            yield f"{site.parameter} of {shape} has its sides exchanged"


def _is_oriented(site: Site, shape: tuple[int, ...]) -> bool:
    if site.kind in _STORED_OUT_IN:
        return shape == (site.out_features, site.in_features)
    if site.kind in _STORED_IN_OUT:
        return shape == (site.in_features, site.out_features)
    return site.out_features in shape or site.in_features in shape
