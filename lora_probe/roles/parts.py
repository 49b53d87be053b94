"""Which projection of its block a weight is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.lexicon import part_word
from lora_probe.roles.tree import WRAPPERS

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = ["part_of"]

_ATTENTION = {
    "q_a_proj": "q_down", "q_b_proj": "q_up", "kv_a_proj_with_mqa": "kv_down", "kv_b_proj": "kv_up",
    "kv_a_proj": "kv_down", "g_proj": "gate", "gate_proj": "gate", "output_gate": "gate", "dense": "o",
    "projection": "o", "proj": "o", "linear_pos": "position",
}  # fmt: skip
_MLP = {
    "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "gate_up_proj": "gate_up", "w1": "gate",
    "w3": "up", "w2": "down", "wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down", "fc1": "up", "fc2": "down",
    "linear1": "up", "linear2": "down", "lin1": "up", "lin2": "down", "dense_h_to_4h": "up",
    "dense_4h_to_h": "down", "c_fc": "up", "c_proj": "down", "fc_in": "up", "fc_out": "down",
    "linear_fc1": "up", "linear_fc2": "down", "intermediate_dense": "up", "output_dense": "down",
    "proj_in": "up", "proj_out": "down", "linear_1": "up", "linear_2": "down", "dense1": "up", "dense2": "down",
    "input_linear": "gate_up", "output_linear": "down",
}  # fmt: skip
_SSM = {
    "in_proj": "in", "out_proj": "out", "x_proj": "x", "dt_proj": "dt", "conv1d": "conv", "o_proj": "out",
}  # fmt: skip


def part_of(leaf: Node) -> str:
    """Return the part that `leaf` plays in its block, or its name where the block has no standard parts."""
    node = leaf
    while (
        node.name in WRAPPERS
        and node.parent is not None
        and len(node.parent.children) == 1
        and node is not node.unit
    ):
        node = node.parent
    name = node.name
    if leaf.block in {"attention", "cross_attention"}:
        return _ATTENTION.get(name) or part_word(name)
    if leaf.block in {"mlp", "experts", "shared_experts"}:
        if name == "dense":
            return "up" if "intermediate" in node.parent_name else "down"
        return _MLP.get(name, name)
    if leaf.block == "ssm":
        return _SSM.get(name) or part_word(name)
    return name or leaf.place.parameter  # type: ignore[union-attr]
