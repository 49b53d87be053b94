"""A checkpoint's tensor names and shapes become a module graph, for what cannot be built here.

Pure. Against the graph of the same model, built: class names are empty and modules without weights missing;
a router kept as a bare parameter looks like a linear layer; bare matrices are seen where their name says what
they are, with their sides as usual; not all groups of convolutions are seen; saved buffers of floating point
count as parameters; of tied weights only the head comes again, under the usual name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from lora_probe.graph import Adaptable, Kind, Module, ModuleGraph, Note, Site, Uncovered
from lora_probe.roles import Place, assign_roles
from lora_probe.scanner.checkpoint import is_buffer, weights_in
from lora_probe.scanner.packing import method_of
from lora_probe.scanner.storage import quantized_note
from lora_probe.scanner.weights import Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lora_probe.roles import Role
    from lora_probe.source.tensors import TensorInfo

__all__ = ["graph_of_headers"]

_DTYPES = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "I8": "int8", "I16": "int16",
    "I32": "int32", "U8": "uint8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_BELOW_WEIGHT = re.compile(
    r"\.(weight\.(?:\w*absmax|\w*quant_map|quant_state\.\w+)|parametrizations\.\w+\.\w+)$"
)
"""Names with dots that belong to the module before them: bitsandbytes' state, weight normalisation."""
_HEADED = ("ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "LMHeadModel")
"""Ends of the names of architectures with a head over the vocabulary."""
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output|head)$")
_NUMBER = re.compile(r"(\d+)")
_USUAL_BITS = 4


def graph_of_headers(
    tensors: Iterable[TensorInfo],
    config: Mapping[str, Any],
    *,
    model: str,
    source: str,
    revision: str | None = None,
    versions: Mapping[str, str] | None = None,
    notes: Iterable[Note] = (),
) -> ModuleGraph:
    """Return the graph of the model whose checkpoint holds `tensors`; `config` may lack anything.

    A head that the architecture has and the checkpoint lacks is tied to the input embedding, unless the
    config says otherwise.
    """
    found, uncovered, paths = _read(tensors, bits=_bits(config))
    architecture, model_type = _architecture(config), str(config.get("model_type") or "")
    inputs = _input_embedding(found, config)
    outputs = next((each.path for each in found if _is_head(each, inputs)), None)
    if outputs is None and inputs and _is_tied(config, architecture):
        head = _tied_head(inputs)
        found.append(head)
        paths.append(outputs := head.path)
    places = [_place(each, inputs.path if inputs else None, outputs) for each in found]
    roles = assign_roles(places, model_type=model_type, architecture=architecture)
    sites = tuple(_site(each, role) for each, role in zip(found, roles, strict=True))
    quantization = _quantization(config)
    return ModuleGraph(
        model=model,
        source=source,
        architecture=architecture,
        model_type=model_type,
        total_parameters=sum(each.parameters for each in sites) + sum(each.parameters for each in uncovered),
        sites=sites,
        uncovered=tuple(uncovered),
        modules=tuple(Module(path=path, class_name="") for path in paths),
        input_embedding=inputs.path if inputs else None,
        output_embedding=outputs,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "") or None,
        quantization=method_of(quantization) if quantization else None,
        revision=revision,
        versions=dict(versions or {}),
        notes=(*notes, *([quantized_note(method_of(quantization))] if quantization else [])),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """One weight of the checkpoint in its module."""

    path: str
    weight: Weight
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    bias_parameters: int = 0
    tied_to: str | None = None

    @property
    def leaf(self) -> str:
        return self.path.rpartition(".")[2]

    def full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _read(tensors: Iterable[TensorInfo], *, bits: int) -> tuple[list[_Found], list[Uncovered], list[str]]:
    """Return the weights, what is none, and the path of every module, in the order of layers."""
    modules: defaultdict[str, dict[str, TensorInfo]] = defaultdict(dict)
    for tensor in sorted(tensors, key=lambda tensor: _natural(tensor.name)):
        below = _BELOW_WEIGHT.search(tensor.name)
        path, _, name = (tensor.name[: below.start()], "", below[1]) if below else tensor.name.rpartition(".")
        modules[path][name] = tensor
    found: list[_Found] = []
    uncovered: list[Uncovered] = []
    for path, own in modules.items():
        claimed: set[str] = set()
        for weight in weights_in(path, own, bits=bits):
            stored = weight.stored or (weight.name,)
            claimed.update(stored, [weight.bias] if weight.bias else [])
            found.append(_found(path, weight, own, stored))
        for name, tensor in own.items():
            if name not in claimed and not is_buffer(name, tensor) and not name.startswith("weight."):
                uncovered.append(_uncovered(name, tensor, own))
    return _transposed_alike(found), uncovered, _all_paths(modules)


def _transposed_alike(found: Sequence[_Found]) -> list[_Found]:
    """Return `found` with square linear layers transposed whose namesakes are."""
    leaves = {each.leaf for each in found if each.weight.kind is Kind.CONV1D}
    return [
        replace(each, weight=replace(each.weight, kind=Kind.CONV1D))
        if each.leaf in leaves and each.weight.kind is Kind.LINEAR and len(set(each.shape)) == 1
        else each
        for each in found
    ]


def _found(path: str, weight: Weight, own: Mapping[str, TensorInfo], stored: Sequence[str]) -> _Found:
    main = own[stored[0]]
    return _Found(
        path=path,
        weight=weight,
        dtype=_DTYPES.get(main.dtype, main.dtype.lower()),
        shape=main.shape if prod(main.shape) == weight.elements else (),
        bytes=sum(_bytes(own[name]) for name in stored),
        bias_parameters=prod(own[weight.bias].shape) if weight.bias else 0,
    )


def _uncovered(name: str, tensor: TensorInfo, own: Mapping[str, TensorInfo]) -> Uncovered:
    elements, shape = prod(tensor.shape), tensor.shape
    if f"{name}.absmax" in own and tensor.dtype == "U8":  # bitsandbytes: flat, two 4-bit values a byte
        elements *= 2
        shape = (elements,)
    return Uncovered(parameter=tensor.name, shape=shape, parameters=elements)


def _bytes(tensor: TensorInfo) -> int:
    bits = _NUMBER.search(tensor.dtype)  # BF16, F8_E4M3, I32
    return -(-prod(tensor.shape) * (int(bits[1]) if bits else 8) // 8)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts layer 2 before layer 10."""
    return [(len(part), part) if part.isdecimal() else (0, part) for part in _NUMBER.split(name)]


def _all_paths(modules: Iterable[str]) -> list[str]:
    """Return every module's path and those above it, parents first."""
    paths = dict.fromkeys([""])
    for path in modules:
        segments = path.split(".")
        paths.update(dict.fromkeys(".".join(segments[:end]) for end in range(1, len(segments) + 1)))
    return list(paths)


def _quantization(config: Mapping[str, Any]) -> dict[str, Any] | None:
    for part in (config, config.get("text_config")):
        found = part.get("quantization_config") if isinstance(part, dict) else None
        if isinstance(found, dict) and found:
            return found
    return None


def _bits(config: Mapping[str, Any]) -> int:
    """Return the bits of a packed value, as GPTQ, AWQ and compressed-tensors configs say."""
    quantization = _quantization(config) or {}
    groups = quantization.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = group.get("weights") if isinstance(group, dict) else None
    bits = quantization.get("bits") or (weights.get("num_bits") if isinstance(weights, dict) else None)
    return bits if isinstance(bits, int) and 0 < bits <= 8 else _USUAL_BITS  # noqa: PLR2004


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _input_embedding(found: Sequence[_Found], config: Mapping[str, Any]) -> _Found | None:
    """Return the embedding of as many rows as the config's vocabulary; else the one of most rows."""
    parts = [part for part in (config, config.get("text_config")) if isinstance(part, dict)]
    sizes = [part.get("vocab_size") for part in parts]
    tables = [each for each in found if each.weight.kind is Kind.EMBEDDING]
    named = [each for each in tables if each.weight.in_features in sizes]
    return next(iter(named), None) or max(tables, key=lambda each: each.weight.in_features, default=None)


def _is_head(each: _Found, inputs: _Found | None) -> bool:
    if each.weight.kind is not Kind.LINEAR or not _HEAD.search(each.path):
        return False
    return inputs is None or each.weight.out_features == inputs.weight.in_features


def _is_tied(config: Mapping[str, Any], architecture: str) -> bool:
    return architecture.endswith(_HEADED) and config.get("tie_word_embeddings") is not False


def _tied_head(inputs: _Found) -> _Found:
    weight = Weight(
        name="weight",
        kind=Kind.LINEAR,
        in_features=inputs.weight.out_features,
        out_features=inputs.weight.in_features,
        adaptable=Adaptable.MODULE,
    )
    owner = inputs.full(inputs.weight.name)
    outer, below, _ = inputs.path.partition(".model.")
    path = f"{outer}.lm_head" if below and outer != "model" else "lm_head"
    return replace(inputs, path=path, weight=weight, bytes=0, bias_parameters=0, tied_to=owner)


def _place(each: _Found, inputs: str | None, outputs: str | None) -> Place:
    depth = each.path.count(".") + 2 if each.path else 1
    return Place(
        path=each.path,
        classes=("",) * depth,
        parameter=each.weight.name,
        kind=each.weight.kind,
        in_features=each.weight.in_features,
        out_features=each.weight.out_features,
        experts=each.weight.experts,
        is_input_embedding=each.path == inputs,
        is_output_embedding=each.path == outputs,
    )


def _site(each: _Found, role: Role) -> Site:
    weight = each.weight
    return Site(
        path=each.path,
        kind=weight.kind,
        in_features=weight.in_features,
        out_features=weight.out_features,
        experts=weight.experts,
        tower=role.tower,
        block=role.block,
        part=role.part,
        layer=role.layer,
        parameter=each.full(weight.name),
        tied_to=each.tied_to,
        parameters=(0 if each.tied_to else weight.elements) + each.bias_parameters,
        bias=each.full(weight.bias) if weight.bias else None,
        bias_parameters=each.bias_parameters,
        groups=weight.groups,
        shape=each.shape,
        dtype=each.dtype,
        weight_bytes=each.bytes,
        adaptable=weight.adaptable,
    )
