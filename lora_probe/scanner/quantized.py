"""Layers whose weight is stored packed: what they multiply by, and the bytes that hold it.

Told by what such layers share, whatever library made them: the sizes of a linear layer beside a weight of
another element type, of another size, or under another name. Sizes are those of the matrix that multiplies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lora_probe.graph import Adaptable, Kind
from lora_probe.scanner.members import own_tensors
from lora_probe.scanner.weights import Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lora_probe.scanner.weights import Layout

__all__ = ["is_plain", "packed_experts", "stand_in"]

_PLAIN = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_SIZES = (
    (Kind.LINEAR, "in_features", "out_features"),
    (Kind.LINEAR, "infeatures", "outfeatures"),
    (Kind.EMBEDDING, "num_embeddings", "embedding_dim"),
)
_DISPATCHED = frozenset({"BaseQuantLinear", "EetqLinear", "HQQLinear", "PatchedLinear", "QuantizedLinear"})
"""Bases of the layers, other than torch's own, that PEFT's dispatchers take: GPTQModel's (GPTQ and AWQ), and
those of EETQ, HQQ, INC and AQLM (peft/tuners/lora/{gptq,awq,eetq,hqq,inc,aqlm}.py)."""
_SCALED = ("_scale", "_scales", "_scale_inv", "_activation_scale")


def is_plain(weight: torch.Tensor) -> bool:
    """Return whether a tensor holds its elements one by one in a type that is trained in."""
    return type(weight) in {torch.Tensor, nn.Parameter, nn.Buffer} and weight.dtype in _PLAIN


def stand_in(module: nn.Module) -> Weight | None:
    """Return the weight of a stand-in for nn.Linear or nn.Embedding, None where `module` is none.

    A stand-in that stores a plain matrix (I-BERT's, which quantizes while it runs) is described as well.
    """
    own = own_tensors(module)
    stored = {name: tensor for name, tensor in own.items() if name != "bias"}
    sizes = _sizes(module, stored)
    if sizes is None:
        return None
    kind, in_features, out_features = sizes
    weight = stored.get("weight")
    plain = weight is not None and is_plain(weight) and weight.numel() == in_features * out_features
    if not plain and all(map(is_plain, stored.values())):
        return None  # has such attributes for reasons of its own
    return Weight(
        name="weight",
        kind=kind,
        in_features=in_features,
        out_features=out_features,
        adaptable=_adaptable(module, plain=plain),
        bias="bias" if "bias" in own else None,
        stored=() if plain else tuple(stored),
        stored_bytes=None if plain else sum(map(_bytes, stored.values())),
    )


def packed_experts(module: nn.Module, name: str, layout: Layout) -> Weight | None:
    """Return a stack of expert weights that is stored with scales, None where `name` is a plain parameter.

    Integers hold two 4-bit values where the last dimension is half of a width that the module names.
    """
    own = own_tensors(module)
    tensor = own[name]
    if is_plain(tensor):
        return None
    shape = list(tensor.shape)
    if not tensor.is_floating_point() and 2 * shape[-1] in _widths(module):
        shape[-1] *= 2
    in_features, out_features, experts = layout.sizes(shape)
    stored = (name, *(name + suffix for suffix in _SCALED if name + suffix in own))
    return Weight(
        name=name,
        kind=Kind.EXPERT_PARAMETER,
        in_features=in_features,
        out_features=out_features,
        experts=experts,
        adaptable=Adaptable.PARAMETER if tensor.is_floating_point() else None,
        bias=f"{name}_bias" if f"{name}_bias" in own else None,
        stored=stored,
        stored_bytes=sum(_bytes(own[each]) for each in stored),
    )


def _sizes(module: nn.Module, stored: Mapping[str, torch.Tensor]) -> tuple[Kind, int, int] | None:
    """Return kind, in_features and out_features of what has a linear layer's or an embedding's sizes."""
    if not stored:
        return None
    for kind, *names in _SIZES:
        in_features, out_features = (getattr(module, name, None) for name in names)
        if isinstance(in_features, int) and isinstance(out_features, int):
            return kind, in_features, out_features
    if type(module).__name__ == "EetqLinear" and "weight" in stored:  # has no sizes; stores (in, out)
        in_features, out_features = stored["weight"].shape
        return Kind.LINEAR, in_features, out_features
    return None


def _adaptable(module: nn.Module, *, plain: bool) -> Adaptable | None:
    taken = isinstance(module, (nn.Linear, nn.Embedding))
    if taken or any(base.__name__ in _DISPATCHED for base in type(module).__mro__):
        return Adaptable.MODULE
    return Adaptable.PARAMETER if plain else None


def _widths(module: nn.Module) -> set[int]:
    names = ("hidden_size", "hidden_dim", "intermediate_size", "intermediate_dim")
    return {value for name in names if isinstance(value := getattr(module, name, None), int)}


def _bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor: of the tensors inside, for those of torchao, quanto and bitsandbytes."""
    inside: list[Any] = []
    if hasattr(tensor, "__tensor_flatten__"):
        inside = [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    state = getattr(tensor, "quant_state", None)
    beside = sum(map(_bytes, _tensors(vars(state).values()))) if state is not None else 0
    if inside:
        return sum(map(_bytes, inside)) + beside
    return tensor.numel() * tensor.element_size() + beside


def _tensors(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    """Yield the tensors among `values` and inside the nested quantization states among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif type(value).__name__ == "QuantState":
            yield from _tensors(vars(value).values())
