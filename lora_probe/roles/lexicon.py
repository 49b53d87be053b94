"""How the published code spells the standard projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["part_word"]

_SPELLINGS: Mapping[str, str] = {
    "q": "q q_proj query query_proj q_lin wq to_q linear_q query_layer queries q_linear lin_q query_projection query_states",
    "k": "k k_proj key key_proj k_lin wk to_k linear_k key_layer keys k_linear lin_k key_projection",
    "v": "v v_proj value value_proj v_lin wv to_v linear_v value_layer values v_linear lin_v value_projection",
    "o": "o o_proj out_proj out_lin wo to_out linear_out output_proj proj_o attn_out attention_output o_net output_projection project_o c_proj projection_layer out",
    "qkv": "qkv qkv_proj wqkv query_key_value c_attn att_proj in_proj_weight to_qkv qkv_projection queries_keys_values mixed_qkv packed_qkv in_proj_qkv qkv_layer",
    "kv": "kv kv_proj to_kv key_value c_kv keys_values wkv",
    "gate": "gate gate_proj w1_gate",
    "up": "up up_proj",
    "down": "down down_proj",
    "gate_up": "gate_up gate_up_proj",
}  # fmt: skip
_WORDS = {spelling: word for word, spellings in _SPELLINGS.items() for spelling in spellings.split()}


def part_word(name: str) -> str:
    """Return the standard word of a lower-case `name`, or the name itself."""
    return _WORDS.get(name, name)
