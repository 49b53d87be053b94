"""Rules that open a block which mixes positions: attention, cross-attention, recurrent mixers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.rule import Rule, together
from lora_probe.roles.tree import INDEX

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = [
    "ATTENTION",
    "CLOSED",
    "CROSS_ATTENTION",
    "CROSS_ATTENTION_CLASSES",
    "LAYER",
    "MIXERS",
    "RECURRENT",
]

MIXERS = frozenset({"attention", "cross_attention", "ssm"})
CLOSED = frozenset(
    {"experts", "shared_experts", "router", "adapter", "head", "codebook", "modulation", "residual"}
)
"""Blocks that name whatever is inside them."""
LAYER = CLOSED | MIXERS | {"mlp"}

_FEED_FORWARD = frozenset(
    {"mlp", "ffn", "fc1", "linear1", "up_proj", "ff_proj", "feed_forward", "intermediate"}
)
_STACKS = frozenset({"layers", "layer", "blocks", "block", "h", "resblocks"})


def is_no_stack(node: Node) -> bool:
    """Tell whether `node` is a part of one layer, not a stack of layers that is named after such a part."""
    return not node.child_names & _STACKS and node.child_names != {INDEX}


def _is_no_layer(node: Node) -> bool:
    """Tell whether `node` is attention alone, not a whole layer that holds its projections among others."""
    return is_no_stack(node) and not node.child_names & _FEED_FORWARD


def _attends_from_latents(node: Node) -> bool:
    """Tell whether an attention of a connector belongs to a resampler, by the whole class name."""
    words = ("Perceiver", "Resampler", "Compressor")
    if node.parent_name == "resampler":
        return True
    return (
        node.tower == "connector"
        and "Attention" in node.class_name
        and any(word in node.class_name for word in words)
    )


def _pools(node: Node) -> bool:
    return (
        node.name == "head"
        or "pool" in node.name
        or not node.child_names & {"q_proj", "wq", "q_a_proj", "q_gate_proj"}
    )


RECURRENT = (
    Rule(
        name="recurrent-mixer-class", word="ssm",
        reason="the class is a state-space, linear-attention or gated short-convolution mixer",
        classed=r"\w*Mamba\d?(Mixer|Layer)?|\w*DeltaNet|\w*DeltaAttention|\w*LinearAttention"
        r"|\w*LightningAttention|\w*Rglru|\w*RecurrentBlock|\w*ShortConv|\w*[ms]LSTM\w*",
        outside=CLOSED | {"ssm"},
        where=is_no_stack,
    ),
    Rule(
        name="recurrent-mixer-name", word="ssm",
        reason="the name is a state-space or linear-attention mixer's",
        named=r"mamba|linear_attn|linear_attention|ssm|time_mix(er)?|short_conv|[ms]lstm_layer|rg_lru",
        outside=CLOSED | {"ssm"},
        where=is_no_stack,
    ),
    Rule(
        name="recurrent-mixer-parts", word="ssm",
        reason="only a recurrent mixer has these side by side",
        holding=together(
            "in_proj conv1d out_proj", "in_proj conv out_proj", "in_proj spatial_conv out_proj",
            "x_proj dt_proj", "in_proj_qkvz out_proj", "in_proj_qkv in_proj_z", "receptance key value output",
            "igate_preact fgate_preact", "q_proj k_proj v_proj b_proj", "q_proj k_proj v_proj f_a_proj",
            "qkv_proj output_gate", "linear_x linear_y",
        ),
        outside=CLOSED | {"ssm"},
    ),
)  # fmt: skip

CROSS_ATTENTION_CLASSES = (
    Rule(
        name="cross-attention-class", word="cross_attention",
        reason="the class says that keys and values come from elsewhere",
        classed=r"\w*(Cross|EncDec|EncoderDecoder|Assign|BiMultiHead)Attention(Layer)?",
        outside=CLOSED | {"cross_attention", "ssm"},
        where=is_no_stack,
    ),
)  # fmt: skip

CROSS_ATTENTION = (
    Rule(
        name="cross-attention-name", word="cross_attention",
        reason="the name says that keys and values come from elsewhere",
        named=r"(\w+_)?cross_?attn(_\w+)?|(\w+_)?cross_?attention"
        r"|enc(oder)?_(dec(oder)?_)?(attn|attention)(_\w+)?|encdecattention|x_attn|multihead_attn"
        r"|\w*attn_(token|image)_to_(token|image)",
        unless_named=r"\w*_layers",
        outside=CLOSED | {"cross_attention", "ssm"},
        where=is_no_stack,
    ),
    Rule(
        name="second-attention", word="cross_attention",
        reason="diffusers calls the attention to the prompt attn2, beside attn1 to itself",
        named=r"attn2",
        beside=r"attn1",
        outside=CLOSED | MIXERS,
    ),
    Rule(
        name="attention-of-a-resampler", word="cross_attention",
        reason="a resampler's queries are its own latents, its keys and values the other tower's states",
        named=r"(self_)?(attn|attention)|#",
        apart=r"cross_\w+",
        outside=CLOSED | MIXERS,
        where=_attends_from_latents,
    ),
    Rule(
        name="attention-of-a-pooling-head", word="cross_attention",
        reason="a pooling head attends from a learned or averaged query to the sequence",
        named=r"attn|attention",
        under=r"head|\w*pool\w*",
        outside=CLOSED | MIXERS,
    ),
    Rule(
        name="pooling-by-attention", word="cross_attention",
        reason="no matrix for the queries, or a pooling head: the query is learned or averaged",
        holding=together("k_proj v_proj", "wk wv"),
        outside=CLOSED | MIXERS,
        where=_pools,
    ),
)  # fmt: skip

ATTENTION = (
    Rule(
        name="self-attention", word="attention",
        reason="named self-attention, where the layer may have cross-attention, too",
        named=r"self_attn|self_attention|selfattention",
        outside=CLOSED | MIXERS - {"cross_attention"},
        where=is_no_stack,
    ),
    Rule(
        name="attention", word="attention",
        reason="the name or class says attention",
        named=r"(\w+_)?(attn\d?|attention|attentions|att)|(local|transientglobal)selfattention",
        classed=r"\w*(Attention|Attn|AttnBlock|MLA|MoA|AttentionOutput|SelfOutput|AttentionSubsample)\w?\w?",
        unless_named=r"(post|pre)_\w+",
        outside=CLOSED | MIXERS,
        where=is_no_stack,
    ),
    Rule(
        name="queries-keys-values", word="attention",
        reason="queries, keys and values side by side",
        holding=together(
            "q_proj k_proj v_proj", "q_proj kv_proj", "query key value", "q_lin k_lin v_lin", "wq wk wv",
            "to_q to_k to_v", "to_q to_kv", "kv_a_proj_with_mqa", "qkv_proj o_proj", "w_pack o_proj",
            "qkv proj", "wqkv wo", "c_attn c_proj", "in_proj_weight", "queries keys_values",
            "queries_keys_values",
        ),
        outside=CLOSED | MIXERS,
        where=_is_no_layer,
    ),
    Rule(
        name="projections-in-the-layer", word="attention",
        reason="the projections stand in the layer itself, beside those of the feed-forward layer",
        named=r"[qkvo]_proj|(out|qkv|att)_proj|attn_out",
        beside=r"[qkv]_proj|(qkv|att)_proj|attn_out",
        outside=CLOSED | MIXERS,
    ),
    Rule(
        name="output-of-attention", word="attention",
        reason="an output projection that stands in the layer itself, before its normalization",
        named=r"post_attention",
        beside=r"attention",
        outside=CLOSED | MIXERS,
    ),
)  # fmt: skip
