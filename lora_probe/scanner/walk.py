"""A built model, on the meta device or live, becomes a module graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.graph import Kind, ModuleGraph, Note, Site
from lora_probe.peft_rules.tables import MAMBA_MODULES, MAMBA_TYPES
from lora_probe.roles import Place, Role, assign_roles
from lora_probe.scanner.members import base_of
from lora_probe.scanner.packing import method_of
from lora_probe.scanner.storage import quantized_note
from lora_probe.scanner.ties import declared_ties
from lora_probe.scanner.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from lora_probe.scanner.tree import Found

__all__ = ["walk"]


def walk(
    root: nn.Module,
    *,
    model: str,
    source: str,
    versions: Mapping[str, str] | None = None,
    notes: Iterable[Note] = (),
) -> ModuleGraph:
    """Return the graph of every parameter below `root`: each in one site or uncovered, counted once.

    Elements are logical: a quantized weight counts as the matrix it stands for. Of a model that PEFT has
    wrapped, the base layers are seen under their own names and the adapters are not. Linear in modules.
    """
    base = base_of(root)
    tree = Tree(base)
    config = getattr(base, "config", None)
    model_type, architecture = str(getattr(config, "model_type", None) or ""), type(base).__name__
    inputs = tree.path_of(_embedding(base, "get_input_embeddings"))
    outputs = tree.path_of(_embedding(base, "get_output_embeddings"))
    places = [_place(found, inputs, outputs) for found in tree.found]
    roles = assign_roles(places, model_type=model_type, architecture=architecture)
    sites = tuple(_site(found, role, model_type) for found, role in zip(tree.found, roles, strict=True))
    uncovered = tuple(tree.uncovered)
    method = _quantization(config)
    return ModuleGraph(
        model=model,
        source=source,
        architecture=architecture,
        model_type=model_type,
        total_parameters=sum(each.parameters for each in sites) + sum(each.parameters for each in uncovered),
        sites=sites,
        uncovered=uncovered,
        modules=tuple(tree.modules),
        input_embedding=inputs,
        output_embedding=outputs,
        tied_modules=declared_ties(base),
        tie_word_embeddings=bool(getattr(config, "tie_word_embeddings", False)),
        dtype=_dtype_name(getattr(config, "dtype", None)),
        quantization=method,
        versions=dict(versions or {}),
        notes=(*notes, *([quantized_note(method)] if method else []), *_notes(sites, wrappers=tree.wrappers)),
    )


def _place(found: Found, inputs: str | None, outputs: str | None) -> Place:
    path = found.visit.path
    return Place(
        path=path,
        classes=found.visit.classes,
        parameter=found.weight.name,
        kind=found.weight.kind,
        in_features=found.weight.in_features,
        out_features=found.weight.out_features,
        experts=found.weight.experts,
        is_input_embedding=path == inputs,
        is_output_embedding=path == outputs,
    )


def _site(found: Found, role: Role, model_type: str) -> Site:
    weight, tensor = found.weight, found.tensor
    elements = 0 if found.tied_to else weight.elements
    return Site(
        path=found.visit.path,
        kind=weight.kind,
        in_features=weight.in_features,
        out_features=weight.out_features,
        experts=weight.experts,
        tower=role.tower,
        block=role.block,
        part=role.part,
        layer=role.layer,
        parameter=found.visit.full(weight.name),
        tied_to=found.tied_to,
        parameters=elements + found.bias_parameters,
        bias=found.visit.full(weight.bias) if weight.bias else None,
        bias_parameters=found.bias_parameters,
        groups=weight.groups,
        shape=tuple(tensor.shape) if tensor.numel() == weight.elements else (),  # unknown where packed
        transposed=getattr(found.visit.module, "is_transposed", False) is True,
        module_class=found.visit.classes[-1],
        dtype=_dtype_name(tensor.dtype),
        weight_bytes=0 if found.tied_to else weight.stored_bytes or tensor.numel() * tensor.element_size(),
        adaptable=None if _is_refused(found, model_type) else weight.adaptable,
    )


def _is_refused(found: Found, model_type: str) -> bool:
    """Tell whether PEFT raises at this place for what it takes elsewhere.

    To wrap a parameter it replaces the module that holds it, and nothing holds the root. Of Mamba models it
    refuses what fused kernels read past an adapter.
    """
    path = found.visit.path
    if not path:
        return True
    return model_type in MAMBA_TYPES and path.rpartition(".")[2] in MAMBA_MODULES


def _embedding(module: nn.Module, getter: str) -> nn.Module | None:
    """Ask a model for one of its embeddings; one without it has no such method or raises."""
    try:
        return getattr(module, getter)()  # type: ignore[no-any-return]
    except (AttributeError, NotImplementedError):
        return None


def _quantization(config: Any) -> str | None:
    """Return the method that a loaded model's config names, as a record of transformers or a dict."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    return method_of(settings if isinstance(settings, dict) else settings.to_dict())


def _dtype_name(dtype: torch.dtype | str | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _notes(sites: Sequence[Site], *, wrappers: int) -> Iterator[Note]:
    for site in sites:
        if site.tied_to and site.kind in {Kind.LINEAR, Kind.EMBEDDING}:
            yield Note(
                code="tied-embeddings",
                message=f"{site.parameter} is {site.tied_to} and is counted there",
            )
    stacks = sum(site.kind is Kind.EXPERT_PARAMETER for site in sites)
    if stacks:
        yield Note(
            code="expert-parameters",
            message=f"{stacks} expert weights are 3-D parameters: PEFT reaches them by target_parameters",
        )
    if wrappers:
        yield Note(
            code="adapters-present",
            message=f"PEFT already wraps {wrappers} modules; what they wrap is scanned, the adapters are not",
        )
