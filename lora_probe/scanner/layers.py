"""Which weights a module holds itself, told by its class; bare parameters by the code that uses them."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

from torch import nn

from lora_probe.graph import Adaptable, Kind
from lora_probe.scanner.members import own_children, own_parameters
from lora_probe.scanner.parameters import expert_layout, is_lookup_table, is_named_projection
from lora_probe.scanner.quantized import is_plain, packed_experts, stand_in
from lora_probe.scanner.usage import is_read_by, layout_in_source
from lora_probe.scanner.weights import IN_OUT, OUT_IN, Layout, Weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch.nn.modules.conv import _ConvTransposeNd

__all__ = ["weights_of"]

_MATRIX = 2
_STACK = 3


def weights_of(module: nn.Module) -> tuple[Weight, ...]:
    """Return the weights that `module` holds itself, in the order of its parameters.

    `Weight.adaptable` is what PEFT's LoRA does: its dispatcher takes Linear, Embedding, Conv1d/2d/3d,
    MultiheadAttention and transformers' Conv1D by module, and 2-D or 3-D parameters by parameter name
    (peft/tuners/lora/layer.py, `dispatch_default` and `ParamWrapper`).
    """
    describe = _CHOSEN.get(type(module))
    if describe is None:
        describe = _CHOSEN[type(module)] = _choose(module)
    return tuple(describe(module))


_CHOSEN: dict[type, Callable[[Any], Iterator[Weight]]] = {}


def _choose(module: nn.Module) -> Callable[[Any], Iterator[Weight]]:
    for described, describe in _BY_CLASS:
        if isinstance(module, described):
            return describe
    transformers = sys.modules.get("transformers.pytorch_utils")
    if transformers is not None and isinstance(module, transformers.Conv1D):
        return _transposed_linear
    return _bare


def _linear(module: nn.Linear) -> Iterator[Weight]:
    if packed := _packed(module):
        yield packed
        return
    for name, (out_features, in_features) in _stored(module, module.in_features * module.out_features):
        yield Weight(
            name=name,
            kind=Kind.LINEAR,
            in_features=in_features,
            out_features=out_features,
            adaptable=Adaptable.MODULE,
            bias=_bias(module, "bias"),
        )


def _transposed_linear(module: nn.Module) -> Iterator[Weight]:
    """Describe GPT-2's Conv1D: a linear layer that stores (in, out)."""
    in_features, out_features = own_parameters(module)["weight"].shape
    yield Weight(
        name="weight",
        kind=Kind.CONV1D,
        in_features=in_features,
        out_features=out_features,
        adaptable=Adaptable.MODULE,
        bias=_bias(module, "bias"),
    )


def _embedding(module: nn.Embedding | nn.EmbeddingBag) -> Iterator[Weight]:
    if packed := _packed(module):
        yield packed
        return
    for name, (rows, columns) in _stored(module, module.num_embeddings * module.embedding_dim):
        yield Weight(
            name=name,
            kind=Kind.EMBEDDING,
            in_features=rows,
            out_features=columns,
            adaptable=Adaptable.MODULE if isinstance(module, nn.Embedding) else Adaptable.PARAMETER,
        )


def _convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Iterator[Weight]:
    elements = module.out_channels * (module.in_channels // module.groups) * prod(module.kernel_size)
    for name, (out_features, *window) in _stored(module, elements):
        module_class: Any = type(module)
        yield Weight(
            name=name,
            kind=Kind.CONV,
            in_features=prod(window),
            out_features=out_features,
            groups=int(module.groups),
            adaptable=Adaptable.MODULE if _can_be_remade(module_class) else None,
            bias=_bias(module, "bias"),
        )


@cache
def _can_be_remade(convolution: Any) -> bool:
    """Tell whether PEFT can make A and B of the convolution's own class (`_ConvNd.update_layer`)."""
    signature = inspect.signature(convolution)
    try:
        signature.bind("in", "rank", "kernel", "stride", "padding", bias=False)
        signature.bind("rank", "out", "kernel", "stride", groups=1, bias=False)
    except TypeError:
        return False
    return True


def _transposed_convolution(module: _ConvTransposeNd) -> Iterator[Weight]:
    """Describe a convolution that PEFT has no layer for: each input channel writes a kernel of outputs."""
    elements = module.in_channels * (module.out_channels // module.groups) * prod(module.kernel_size)
    for name, (in_features, *window) in _stored(module, elements):
        yield Weight(
            name=name,
            kind=Kind.CONV,
            in_features=in_features,
            out_features=prod(window),
            groups=int(module.groups),
            adaptable=None,
            bias=_bias(module, "bias"),
        )


def _packed_attention(module: nn.MultiheadAttention) -> Iterator[Weight]:
    """Describe q, k and v in one matrix; or, where their inputs differ in width, as three bare matrices.

    PEFT adapts the packed matrix by the module's name, and its `out_proj` with it. Separate ones it refuses
    there, but reaches as parameters.
    """
    if module.in_proj_weight is None:
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            yield _matrix(module, name, OUT_IN)
        return
    out_features, in_features = module.in_proj_weight.shape
    yield Weight(
        name="in_proj_weight",
        kind=Kind.PACKED_ATTENTION,
        in_features=in_features,
        out_features=out_features,
        adaptable=Adaptable.MODULE,
        bias=_bias(module, "in_proj_bias"),
    )


def _recurrent(module: nn.RNNBase) -> Iterator[Weight]:
    """Describe LSTM and GRU matrices; kernels read them from a flat list, past any adapter."""
    for name, parameter in own_parameters(module).items():
        if name.startswith("weight_"):
            out_features, in_features = parameter.shape
            yield Weight(
                name=name,
                kind=Kind.MATRIX_PARAMETER,
                in_features=in_features,
                out_features=out_features,
                adaptable=None,
                bias=_bias(module, name.replace("weight", "bias")),
            )


def _bare(module: nn.Module) -> Iterator[Weight]:
    """Describe a stand-in for a linear layer, else the bare parameters that are projections."""
    if weight := stand_in(module):
        yield weight
        return
    for name, parameter in own_parameters(module).items():
        if parameter.ndim not in {_MATRIX, _STACK} or is_lookup_table(name):
            continue
        if sum(size > 1 for size in parameter.shape) < _MATRIX:
            continue
        if layout := _layout(module, name, parameter):
            weight = packed_experts(module, name, layout) or _matrix(module, name, layout)
            module_class: Any = type(module)
            # An adapter runs while its module does: what only code around that reads has none.
            yield weight if is_read_by(module_class, name) else replace(weight, adaptable=None)
        elif name == "weight" and parameter.ndim == _MATRIX and _is_embedding(module):
            yield _table(parameter)


def _is_embedding(module: nn.Module) -> bool:
    return "Embedding" in type(module).__name__


def _table(parameter: torch.Tensor) -> Weight:
    """Describe the weight of an embedding that is not torch's own class."""
    rows, columns = parameter.shape
    return Weight(
        name="weight",
        kind=Kind.EMBEDDING,
        in_features=rows,
        out_features=columns,
        adaptable=Adaptable.PARAMETER,
    )


def _layout(module: nn.Module, name: str, parameter: torch.Tensor) -> Layout | None:
    """Return how the module multiplies by its bare `parameter`, None where it does not."""
    transposed = getattr(module, "is_transposed", None)  # declared by transformers' experts classes
    if isinstance(transposed, bool) and parameter.ndim == _STACK:
        return IN_OUT if transposed else OUT_IN
    module_class: Any = type(module)
    layout = layout_in_source(module_class, name)
    if layout is None and is_named_projection(name):
        return expert_layout(name, {key: tuple(each.shape) for key, each in own_parameters(module).items()})
    return layout


def _matrix(module: nn.Module, name: str, layout: Layout) -> Weight:
    shape = own_parameters(module)[name].shape
    in_features, out_features, experts = layout.sizes(shape)
    one_for_each = len(shape) == _STACK and {*layout.inputs, *layout.outputs} == {-1, -2}
    # PEFT reads every 3-D parameter as one matrix for each index of its first dimension. A projection to
    # several heads, (hidden, heads, width), is no such stack.
    return Weight(
        name=name,
        kind=Kind.EXPERT_PARAMETER if one_for_each else Kind.MATRIX_PARAMETER,
        in_features=in_features,
        out_features=out_features,
        experts=experts,
        adaptable=Adaptable.PARAMETER if one_for_each or len(shape) == _MATRIX else None,
        bias=_bias(module, f"{name}_bias", name.replace("weight", "bias"), elements=experts * out_features),
    )


def _packed(module: nn.Module) -> Weight | None:
    """Return the weight of a quantized subclass of a torch layer, None where it is stored plainly."""
    own = own_parameters(module)
    if ("weight" in own and is_plain(own["weight"])) or "parametrizations" in own_children(module):
        return None
    return stand_in(module)


def _stored(module: nn.Module, elements: int) -> Iterator[tuple[str, torch.Size]]:
    """Yield name and shape of the own or parametrized tensor that holds the weight of so many `elements`.

    Weight normalisation keeps a direction of the weight's shape beside a small magnitude: `weight_v`, or
    ``parametrizations.weight.original1``; of parametrizations that make the weight of something smaller,
    nothing is yielded. Shapes and not a module's attributes give the sizes: these may be computed by tensors.
    """
    own = own_parameters(module)
    for name in ("weight", "weight_v"):
        if name in own:
            yield name, own[name].shape
            return
    parametrizations = own_children(module).get("parametrizations")
    if parametrizations is not None:
        for name, parameter in parametrizations.named_parameters():
            if name.startswith("weight.") and parameter.numel() == elements:
                yield f"parametrizations.{name}", parameter.shape
                return


def _bias(module: nn.Module, *names: str, elements: int | None = None) -> str | None:
    """Return the first of `names` that is a bias of the module (of so many `elements`)."""
    own = own_parameters(module)
    for name in names:
        if "bias" in name and name in own and elements in {None, own[name].numel()}:
            return name
    return None


_BY_CLASS: tuple[tuple[Any, Callable[[Any], Iterator[Weight]]], ...] = (
    (nn.Linear, _linear),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed_convolution),
    (nn.MultiheadAttention, _packed_attention),
    (nn.RNNBase, _recurrent),
)
