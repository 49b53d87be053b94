"""The bytes in which a quantized checkpoint stores the weights that its config builds plainly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_probe.graph import Kind, Note
from lora_probe.scanner.exemptions import exempt_names
from lora_probe.scanner.packing import method_of, packings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.graph import ModuleGraph, Site
    from lora_probe.scanner.exemptions import Names
    from lora_probe.scanner.packing import Packing

__all__ = ["as_stored", "quantized_note"]

_PACKABLE = frozenset({Kind.LINEAR, Kind.EXPERT_PARAMETER})


def as_stored(graph: ModuleGraph, config: Mapping[str, Any]) -> ModuleGraph:
    """Return `graph` with the element types and bytes that the checkpoint of `config` stores.

    Where the method, or a setting of it, is not known here, bytes and type of what it may pack become None.
    """
    storage = _storage_of(config)
    if storage is None:
        return graph
    return replace(
        graph,
        sites=tuple(
            storage.stored(site, is_head=site.path == graph.output_embedding) for site in graph.sites
        ),
        quantization=storage.method,
        notes=(*graph.notes, quantized_note(storage.method)),
    )


def quantized_note(method: str) -> Note:
    """Return the note that the base's weights are packed."""
    return Note(
        code="quantized-base",
        message=f"weights are stored packed ({method}): elements are the matrices', bytes what is stored",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Storage:
    """How the checkpoint of one config stores its weights."""

    method: str
    packings: Mapping[Kind, Packing] | None
    """None where the config says something that is not understood."""
    exempt: Names | None
    """What the config leaves alone; None stands for the default: the head, and what is tied."""
    tower: str | None
    """The one tower whose part of the config asks for packing; None for the whole model."""

    def stored(self, site: Site, *, is_head: bool) -> Site:
        """Return `site` with the element type and bytes of its stored weight, None where they are unknown."""
        if site.kind not in _PACKABLE or site.tied_to or self.tower not in {None, site.tower}:
            return site
        if self.packings is None:
            return replace(site, dtype=None, weight_bytes=None)
        packing = self.packings.get(site.kind)
        if packing is None or self._is_exempt(site, is_head=is_head):
            return site
        size = packing.bytes(site.in_features, site.out_features) * site.experts
        return replace(site, dtype=packing.dtype, weight_bytes=size)

    def _is_exempt(self, site: Site, *, is_head: bool) -> bool:
        if self.exempt is None:
            return is_head
        named = site.parameter if site.kind is Kind.EXPERT_PARAMETER else site.path
        return named in self.exempt


def _storage_of(config: Mapping[str, Any]) -> _Storage | None:
    """Return what `config` or its text part says about packed weights, None where it says nothing."""
    for part, tower in ((config, None), (config.get("text_config"), "text")):
        if not isinstance(part, dict):
            continue
        found = part.get("quantization_config")
        if not isinstance(found, dict) or not found:
            continue
        packings = packings_of({**found, "expert_dtype": part.get("expert_dtype")})
        try:
            exempt = exempt_names(found)
        except ValueError:
            packings, exempt = None, None
        return _Storage(method=method_of(found), packings=packings, exempt=exempt, tower=tower)
    return None
