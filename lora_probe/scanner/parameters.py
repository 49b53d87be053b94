"""What a parameter's name says about it: for bare parameters whose use is not told by code or class.

Pure: also used where only names and shapes are known (a checkpoint's header).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.scanner.weights import IN_OUT, OUT_IN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.scanner.weights import Layout

__all__ = ["expert_layout", "is_lookup_table", "is_named_projection"]

_TABLE = re.compile(
    r"(^|_)(pos|positions?|positional|embed|embeds|embedding|embeddings|emb|tokens?|table|ape)(_|$)"
)
_SCALE = re.compile(r"(^|_)scales?(_inv)?$")
_PROJECTION = re.compile(r"(^|_)(proj|projection|gate|up|down|w[1-3]|v1|kernel)(_|$)")
_GATE = re.compile(r"(^|_)(gate|up|w1)(_|$)")
_DOWN = re.compile(r"(^|_)(down|w2)(_|$)")
_STACK = 3


def is_lookup_table(name: str) -> bool:
    """Return whether `name` is that of vectors that are looked up or added: positions, tokens, embeddings."""
    return _TABLE.search(name) is not None


def is_named_projection(name: str) -> bool:
    """Return whether `name` is that of a matrix: ``gate_up_proj``, ``x_proj_weight``, ``w1`` and the like."""
    if "bias" in name or _SCALE.search(name):
        return False
    return _PROJECTION.search(name.removesuffix("_weight")) is not None


def expert_layout(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Return the layout of a module's expert parameter from its shape and those of its siblings.

    A fused gate and up (2 x intermediate) and a down (intermediate) share the expert's width: the way round
    that makes one twice the other is the layout of both. A down that is stored in the very shape of its gate
    is stored the other way round. Otherwise it is transformers' usual (out, in).
    """
    stacks = {each: shape for each, shape in shapes.items() if len(shape) == _STACK}
    fused = next((shape for each, shape in stacks.items() if "gate_up" in each), None)
    down = next((shape for each, shape in stacks.items() if "down" in each), None)
    if fused and down:
        by_rows = fused[1] == 2 * down[2] and fused[2] == down[1]
        by_columns = fused[2] == 2 * down[1] and fused[1] == down[2]
        return IN_OUT if by_columns and not by_rows else OUT_IN
    gates = [shape for each, shape in shapes.items() if _GATE.search(each)]
    shape = shapes[name]
    if _DOWN.search(name) and shape in gates and shape[-1] != shape[-2]:
        return IN_OUT
    return OUT_IN
