"""Rules that open a block which works on each position alone: feed-forward layers and mixtures of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.mixers import CLOSED, LAYER, MIXERS
from lora_probe.roles.rule import Rule, together
from lora_probe.roles.tree import INDEX

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = ["FEED_FORWARD", "MIXTURE"]

_MIXTURE = frozenset({"experts", "shared_experts", "router"})
_PAIR = r"(fc|lin|linear|dense|ffn_layer)_?[12]|ffn|ffn_output|(up|down|gate|gate_up)_proj|ff_(proj|out)"


def _is_no_projector(node: Node) -> bool:
    """Tell whether `node` is outside of connectors, or in a layer of one: beside attention."""
    return (
        node.tower != "connector"
        or any("att" in name for name in node.siblings)
        or (node.name == INDEX and node.own_class.endswith("FeedForward"))
    )


def _is_matrix_of_a_layer(node: Node) -> bool:
    return node.is_repeated and node.tower != "connector" and node.kind in {"linear", "conv1d"}


MIXTURE = (
    Rule(
        name="shared-expert-gate", word="router",
        reason="weighs the shared expert against the routed ones",
        named=r"shared_experts?_gate",
    ),
    Rule(
        name="router", word="router",
        reason="scores the experts",
        named=r"(\w+_)?router",
        classed=r"\w*(Router|Top\w?Gating|TopkGate)",
        outside=frozenset({"router", "residual"}),
    ),
    Rule(
        name="gate-of-experts", word="router",
        reason="a gate beside experts scores them; a feed-forward gate stands beside up and down",
        named=r"gate|gating|wg",
        beside=r"experts|shared_experts?",
        outside=_MIXTURE,
    ),
    Rule(
        name="shared-experts", word="shared_experts",
        reason="experts that every token passes through",
        named=r"shared_experts?|shared_mlp",
        classed=r"\w*SharedExperts?(MLP)?",
        outside=_MIXTURE | MIXERS,
    ),
    Rule(
        name="experts", word="experts",
        reason="some of these are chosen for each token; experts inside of attention are its q and o",
        named=r"experts?|expert_\d+|\w+_experts",
        classed=r"\w*Experts",
        outside=_MIXTURE | MIXERS,
    ),
)  # fmt: skip

FEED_FORWARD = (
    Rule(
        name="feed-forward", word="mlp",
        reason="the name or class says feed-forward",
        named=r"(\w+_)?mlps?|mlp_(block|inter|channels)|ffns?\d?|feed_?forward\d?(_\w+)?|ff\d?(_context)?"
        "|ffw_layer_(start|end)|densereludense",
        classed=r"\w*(MLP|Mlp|FFN|FeedForward|FeedForwardNetwork|DenseActDense|DenseGatedActDense|MLPBlock|MLPLayer|LayerFF)",
        outside=CLOSED | {"mlp", "ssm", "embedding"},
        unless_named=r"\w*(bias|position|router|shared)\w*",
        where=_is_no_projector,
    ),
    Rule(
        name="bert-intermediate", word="mlp",
        reason="the first matrix of BERT's feed-forward layer",
        named=r"(\w+_)?(intermediate|inter)|intermediate_query",
        beside=r"(\w+_)?output(_query)?|attention|attn|cross_attn|self_attn",
        outside=LAYER | {"embedding"},
    ),
    Rule(
        name="bert-output", word="mlp",
        reason="the second matrix of BERT's feed-forward layer: an output outside of attention",
        named=r"(\w+_)?output|output_query",
        beside=r"(\w+_)?(intermediate|inter)(_query)?",
        outside=LAYER,
    ),
    Rule(
        name="gate-up-down", word="mlp",
        reason="the matrices of a feed-forward layer side by side",
        holding=together(
            "gate_proj up_proj down_proj", "gate_up_proj down_proj", "w1 w2 w3", "wi_0 wi_1 wo",
            "c_fc c_proj", "dense_h_to_4h dense_4h_to_h",
        ),
        outside=LAYER | {"embedding"},
        where=_is_no_projector,
    ),
    Rule(
        name="convolutions-of-the-output", word="mlp",
        reason="two 1x1 convolutions named output: a feed-forward layer over channels",
        named=r"output",
        where=lambda node: {"conv1", "conv2"} <= node.child_names,
        outside=LAYER,
    ),
    Rule(
        name="matrices-in-the-layer", word="mlp",
        reason="the two matrices stand in the layer itself, side by side",
        named=_PAIR,
        beside=_PAIR,
        outside=LAYER | {"embedding", "conv", "resample", "pooler", "residual"},
        where=_is_matrix_of_a_layer,
    ),
)  # fmt: skip
