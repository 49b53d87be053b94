"""Is a graph what PEFT does? Real LoRA goes on every adaptable site of a model and is compared with it."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.graph import Adaptable, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from lora_probe.graph import ModuleGraph, Site

__all__ = ["Mismatch", "mismatches"]

_ADAPTER, _HOLDER = "lora_probe", "held"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """One thing about a site that PEFT does otherwise."""

    path: str
    """Path of the site's module; empty where PEFT refused them all."""
    parameter: str
    message: str
    """What the graph says and what PEFT made, in one sentence."""


def mismatches(graph: ModuleGraph, module: nn.Module, *, rank: int = 8) -> tuple[Mismatch, ...]:
    """Compare `graph` with the adapters that PEFT makes on a weightless copy of its `module`.

    Compared are the sides and the parameters of every adapter, of `rank`, or of as many as the groups of a
    grouped convolution, which PEFT requires. `module` is left as it is.
    """
    copy = _on_meta(module)
    modules = [site for site in graph if site.adaptable is Adaptable.MODULE]
    parameters = [site for site in graph if site.adaptable is Adaptable.PARAMETER]
    try:
        _inject(copy, modules, parameters, rank=rank)
    except ValueError as error:  # what PEFT raises for what it cannot adapt
        return (Mismatch(path="", parameter="", message=f"PEFT refuses to adapt these sites: {error}"),)
    adapters = dict(_adapters(copy))
    found: list[Mismatch] = []
    for site in (*modules, *parameters):
        made = adapters.get(site.parameter if site.adaptable is Adaptable.PARAMETER else site.path)
        if message := _difference(site, made, rank=_rank(site, rank)):
            found.append(Mismatch(path=site.path, parameter=site.parameter, message=message))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Made:
    """An adapter as PEFT made it."""

    in_features: int
    out_features: int
    parameters: int


def _on_meta(module: nn.Module) -> nn.Module:
    """Return a deep copy of `module` whose tensors take no memory; tied ones stay tied."""
    from torch import nn

    empty: dict[int, Any] = {}
    for parameter in module.parameters():
        empty[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in module.buffers():
        empty[id(buffer)] = buffer.detach().to("meta")
    return deepcopy(module, empty)


def _inject(module: nn.Module, modules: Iterable[Site], parameters: Iterable[Site], *, rank: int) -> None:
    """Put LoRA on all sites by their exact names, on the layers alone.

    Inside a holder the model shows PEFT no config, by whose type it would rename the targets of some experts.
    """
    import warnings

    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from torch import nn

    modules = list(modules)
    packed = tuple(f"{site.path}." for site in modules if site.kind is Kind.PACKED_ATTENTION)
    # PEFT adapts out_proj together with the packed matrix, and cannot take it again.
    paths = [site.path for site in modules if not (packed and site.path.startswith(packed))]
    config = LoraConfig(
        r=rank,
        target_modules="|".join(f"{_HOLDER}\\.{re.escape(path)}" for path in paths) or [],
        target_parameters=[f"{_HOLDER}.{site.parameter}" for site in parameters] or None,
        rank_pattern={f"^{_HOLDER}\\.{re.escape(s.path)}": s.groups for s in modules if s.groups > 1},
    )
    holder = nn.ModuleDict({_HOLDER: module})
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # about tied targets and the like, which are meant here
        inject_adapter_in_model(config, holder, adapter_name=_ADAPTER, low_cpu_mem_usage=True)


def _rank(site: Site, rank: int) -> int:
    return site.groups if site.groups > 1 else rank


def _adapters(module: nn.Module) -> Iterator[tuple[str, _Made]]:
    """Yield each adapter under the name of what it adapts, without PEFT's wrappers."""
    for path, layer in module.named_modules():
        name = path.replace(".base_layer", "")
        factors = getattr(layer, "lora_A", None)
        if factors is not None and _ADAPTER in factors:
            a, b = factors[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
            parameter = getattr(layer, "parameter_name", None)
            made = _Made(int(layer.in_features), int(layer.out_features), a.numel() + b.numel())
            yield (f"{name}.{parameter}" if parameter else name), made
        embedded = getattr(layer, "lora_embedding_A", None)
        if embedded is not None and _ADAPTER in embedded:
            a, b = embedded[_ADAPTER], layer.lora_embedding_B[_ADAPTER]
            yield name, _Made(a.shape[1], b.shape[0], a.numel() + b.numel())


def _difference(site: Site, made: _Made | None, *, rank: int) -> str | None:
    """Say how an adapter differs from what the graph says of its site; None where it does not."""
    if made is None:
        return f"{site.parameter} is adaptable by {site.adaptable}, but PEFT made no adapter for it"
    expected, sides = site.lora_parameters(rank), (site.in_features, site.out_features)
    if site.kind is Kind.CONV:
        # A of a grouped convolution sees all channels, B has the groups; PEFT names channels, not kernels.
        expected = rank * (site.in_features * site.groups + site.out_features // site.groups)
        sides = (made.in_features, site.out_features)
    if made.parameters != expected:
        return f"{site.parameter} would take {expected:,} parameters, PEFT's adapter has {made.parameters:,}"
    if (made.in_features, made.out_features) not in {sides, _as_stored(site)}:
        return (
            f"{site.parameter} is {sides[0]} -> {sides[1]}, "
            f"PEFT's adapter is {made.in_features} -> {made.out_features}"
        )
    return None


def _as_stored(site: Site) -> tuple[int, int]:
    """Return the sides as PEFT reads a bare parameter: (…, out, in), unless its module declares otherwise.

    Where the forward pass reads it the other way round, the adapter's factors change places and its update of
    the weight is the same.
    """
    if site.adaptable is Adaptable.PARAMETER:
        return site.out_features, site.in_features
    return site.in_features, site.out_features
