"""The weights that the names and shapes of a module's saved tensors tell.

Pure: where nothing can be built, a checkpoint's header is all there is. Sizes are of the matrices, also where
they are stored packed; a weight whose sides no shape tells is left to be listed as uncovered.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

from lora_probe.graph import Adaptable, Kind
from lora_probe.scanner.parameters import expert_layout, is_lookup_table, is_named_projection
from lora_probe.scanner.weights import IN_OUT, OUT_IN, Weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lora_probe.source.tensors import TensorInfo

    Tensors = Mapping[str, TensorInfo]

__all__ = ["is_buffer", "weights_in"]

_BUFFERS = frozenset({
    "inv_freq", "masked_bias", "num_batches_tracked", "position_ids", "relative_position_index",
    "running_mean", "running_var", "token_type_ids",
})  # fmt: skip
_SCALE = re.compile(r"(^|_)scales?(_inv|_2)?$")
_EMBEDDING = re.compile(
    r"^(?!.*(proj|patch)).*embed|(^|_)(wte|wpe|emb)(_|$)|^(shared|relative_attention_bias)$", re.IGNORECASE
)
_CONVOLUTION = re.compile(r"conv|patch_embed|proj_in$|downsampl|upsampl")
_FIRST = re.compile(r"patch|embed|feature_ext|stem|conv_in|conv_pre|seanet")
_MATRIX, _STACK = 2, 3
_WORD_BITS = 32


def is_buffer(name: str, tensor: TensorInfo) -> bool:
    """Return whether a tensor is saved state and no parameter: masks, indices, counters, statistics."""
    return name in _BUFFERS or tensor.dtype in {"BOOL", "I64"} or (name == "bias" and tensor.dtype == "U8")


def weights_in(path: str, own: Tensors, *, bits: int) -> Iterator[Weight]:
    """Yield the weights that the tensors of the module at `path` hold.

    `bits` are those of the config's quantization, for packed shapes that do not tell them.
    """
    if packed := _packed_linear(own, bits=bits):
        yield packed
    elif "in_proj_weight" in own and len(own["in_proj_weight"].shape) == _MATRIX:
        out_features, in_features = own["in_proj_weight"].shape
        yield Weight(
            name="in_proj_weight",
            kind=Kind.PACKED_ATTENTION,
            in_features=in_features,
            out_features=out_features,
            adaptable=Adaptable.MODULE,
            bias=_bias(own, "in_proj_bias", elements=out_features),
        )
    else:
        for name in own:
            if weight := _weight(path, name, own):
                yield weight


def _packed_linear(own: Tensors, *, bits: int) -> Weight | None:
    """Return a linear layer in the layout of GPTQ, AWQ, compressed-tensors, NVFP4, FP8, int8 or BitNet."""
    sides = _packed_sides(own, bits=bits)
    if sides is None:
        return None
    in_features, out_features = sides
    return Weight(
        name="weight",
        kind=Kind.LINEAR,
        in_features=in_features,
        out_features=out_features,
        adaptable=Adaptable.MODULE,
        bias=_bias(own, "bias", elements=out_features),
        stored=tuple(name for name in own if name != "bias"),
    )


def _packed_sides(own: Tensors, *, bits: int) -> tuple[int, int] | None:
    """Return (in_features, out_features) of a packed matrix, None where there is none that tells them."""
    shapes = {name: tensor.shape for name, tensor in own.items()}
    match shapes:
        case {"qweight": (rows, columns), "scales": (_, out_features)}:
            # GPTQ packs along the inputs, AWQ along the outputs.
            return (rows * _WORD_BITS // bits if columns == out_features else rows), out_features
        case {"weight_packed": (rows, columns)}:
            return columns * (2 if own["weight_packed"].dtype == "U8" else _WORD_BITS // bits), rows
        case {"weight": (rows, columns), "weight_scale": scale} if own["weight"].dtype == "U8":
            # BitNet has one scale and four values a byte along the outputs, NVFP4 two along the inputs.
            return (columns, rows * 4) if prod(scale) == 1 else (columns * 2, rows)
        case {"weight": (rows, columns)} if own["weight"].dtype.startswith(("F8", "I8")):
            return columns, rows
    return None


def _weight(path: str, name: str, own: Tensors) -> Weight | None:
    """Return the weight that is stored as `name`, None where that is no weight of its own."""
    shape = own[name].shape
    if name in {"weight", "weight_v"} or name.endswith("original1"):
        return _module_weight(path, name, own)
    if name.endswith("_blocks") and len(shape) == _STACK + 1:  # MXFP4: (experts, out, in / 32, 16 bytes)
        experts, out_features, groups, group_bytes = shape
        base = name.removesuffix("_blocks")
        return Weight(
            name=base,
            kind=Kind.EXPERT_PARAMETER,
            in_features=groups * group_bytes * 2,
            out_features=out_features,
            experts=experts,
            adaptable=Adaptable.PARAMETER,
            bias=_bias(own, f"{base}_bias", elements=experts * out_features),
            stored=tuple(each for each in (name, f"{base}_scales") if each in own),
        )
    if len(shape) not in {_MATRIX, _STACK} or sum(size > 1 for size in shape) < _MATRIX:
        return None
    if is_lookup_table(name) or not is_named_projection(name) or is_lookup_table(_last_word(path)):
        return None
    layout = expert_layout(name, {key: tensor.shape for key, tensor in own.items()})
    in_features, out_features, experts = layout.sizes(shape)
    return Weight(
        name=name,
        kind=Kind.EXPERT_PARAMETER if len(shape) == _STACK else Kind.MATRIX_PARAMETER,
        in_features=in_features,
        out_features=out_features,
        experts=experts,
        adaptable=Adaptable.PARAMETER,
        bias=_bias(own, f"{name}_bias", name.replace("weight", "bias"), elements=experts * out_features),
        stored=tuple(each for each in own if each == name or (each.startswith(name) and _SCALE.search(each))),
    )


def _module_weight(path: str, name: str, own: Tensors) -> Weight | None:
    """Return the weight of a layer, told by its dimensions, its bias and the last word of its path."""
    shape, leaf = own[name].shape, _last_word(path)
    bias = own["bias"].shape if "bias" in own else None
    if len(shape) < _MATRIX or f"{name}.absmax" in own:  # bitsandbytes' 4 bits are flat: no sides
        return None
    if len(shape) > _STACK or (len(shape) == _STACK and not _is_stack(path, shape)):
        return _convolution(path, name, own)
    kind, layout = Kind.LINEAR, OUT_IN
    if len(shape) == _STACK:
        kind = Kind.EXPERT_PARAMETER
    elif bias is None and _EMBEDDING.search(leaf):
        kind, layout = Kind.EMBEDDING, IN_OUT
    elif bias == shape[1:] and bias != shape[:1]:  # GPT-2's Conv1D stores (in, out)
        kind, layout = Kind.CONV1D, IN_OUT
    in_features, out_features, experts = layout.sizes(shape)
    return Weight(
        name=name,
        kind=kind,
        in_features=in_features,
        out_features=out_features,
        experts=experts,
        adaptable=Adaptable.PARAMETER if kind is Kind.EXPERT_PARAMETER else Adaptable.MODULE,
        bias=_bias(own, "bias", elements=experts * out_features),
    )


def _convolution(path: str, name: str, own: Tensors) -> Weight:
    """Return a convolution (out, in / groups, *kernel), or a transposed one (in, out / groups, *kernel).

    A bias as long as the second dimension tells the transposed kind. Of groups, those of one channel each are
    told: only a first layer has one channel without them.
    """
    (first, second, *kernel), bias = own[name].shape, own.get("bias")
    transposed = bias is not None and bias.shape == (second,) != (first,)
    sides = (first, second * prod(kernel))
    return Weight(
        name=name,
        kind=Kind.CONV,
        in_features=sides[0] if transposed else sides[1],
        out_features=sides[1] if transposed else sides[0],
        groups=first if second == 1 and not _FIRST.search(path) else 1,
        adaptable=None if transposed else Adaptable.MODULE,
        bias="bias" if bias is not None and bias.shape in {(first,), (second,)} else None,
    )


def _is_stack(path: str, shape: tuple[int, ...]) -> bool:
    """Tell a stack of matrices from the kernel of a one-dimensional convolution."""
    return not _CONVOLUTION.search(path) and shape[-1] > 16 and shape[1] > 1  # noqa: PLR2004 - kernels are short


def _last_word(path: str) -> str:
    """Return the last segment of `path` that is no number."""
    return next((each for each in reversed(path.split(".")) if not each.isdecimal()), "")


def _bias(own: Tensors, *names: str, elements: int) -> str | None:
    """Return the first of `names` that is a bias of so many elements."""
    for name in names:
        if name.endswith("bias") and name in own and prod(own[name].shape) == elements:
            return name
    return None
