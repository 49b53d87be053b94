"""Laws that hold for every model type of the installed transformers."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import pytest

from lora_probe import Kind, scan
from tests.census import models

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


def test_every_type_is_counted_exactly() -> None:
    """Each parameter of each model stands in one site or is uncovered, and the sizes add up to its total."""
    broken, reasons, built = {}, {}, 0
    for model_type, model in models(reasons=reasons):
        built += 1
        if violations := list(_violations(model, scan(model))):
            broken[model_type] = violations[:3]
    assert not broken
    assert built >= 580
    assert not {
        name
        for name, reason in reasons.items()
        if name not in _KNOWN_REFUSALS
        and not reason.startswith("no causal LM")
        and not any(library in reason for library in _NEEDED_LIBRARIES)
    }


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
    biases = set(named) - set(listed)
    if any("bias" not in name.rpartition(".")[2] for name in biases):
        yield f"neither listed nor a bias: {sorted(biases)[:3]}"
    if [module.path for module in graph.modules] != [path for path, _ in model.named_modules()]:
        yield "the modules are not those of named_modules()"
    for site in graph:
        shape = tuple(named[site.parameter].shape)
        if site.in_features * site.out_features * site.experts != prod(shape):
            yield f"{site.parameter} of {shape} is {site.in_features} -> {site.out_features}"
        if not _is_oriented(site, shape):
            yield f"{site.parameter} of {shape} has its sides exchanged"


def _is_oriented(site: Site, shape: tuple[int, ...]) -> bool:
    if site.kind in _STORED_OUT_IN:
        return shape == (site.out_features, site.in_features)
    if site.kind in _STORED_IN_OUT:
        return shape == (site.in_features, site.out_features)
    return site.out_features in shape or site.in_features in shape
