"""Which sort of layer a module is: the rules, in the order in which they are tried at every module.

The tree is walked from the root. A module that a rule speaks about opens a block, and what is below belongs
to it until something inside opens another: the innermost module that says what it is decides. Evidence is
the module's name, its class, and which children stand side by side.
"""

from __future__ import annotations

from lora_probe.roles.feed_forward import FEED_FORWARD, MIXTURE
from lora_probe.roles.mixers import ATTENTION, CROSS_ATTENTION, CROSS_ATTENTION_CLASSES, RECURRENT
from lora_probe.roles.rule import Rule, Table
from lora_probe.roles.surroundings import (
    ADAPTERS,
    ADDED_BY_PEFT,
    CONVOLUTIONS,
    EMBEDDINGS,
    HEADS,
    POSITIONS,
    SQUEEZES,
    STEERING,
)

__all__ = ["MODULES", "WEIGHTS"]

MODULES = Table((
    *ADDED_BY_PEFT,
    *CROSS_ATTENTION_CLASSES,  # before adapters, one sort of which attends
    *ADAPTERS,
    *MIXTURE,
    *RECURRENT,  # before attention, after which some are named
    *CROSS_ATTENTION,
    *STEERING,
    *SQUEEZES,  # before attention, after which they are named
    *ATTENTION,
    *POSITIONS,  # before heads, after which some are named
    *HEADS,
    *FEED_FORWARD,
    *CONVOLUTIONS,
    *EMBEDDINGS,
))  # fmt: skip
"""What a module opens."""

_OPEN = frozenset({""})

WEIGHTS = Table((
    Rule(
        name="lookup-table", word="embedding",
        reason="rows are looked up by index",
        outside=frozenset({"embedding", "codebook", "head", "router"}),
        where=lambda node: node.kind == "embedding",
    ),
    Rule(
        name="projector", word="connector",
        reason="stands in a connector, outside of any attention",
        inside=_OPEN | {"conv", "resample", "head", "embedding"},
        where=lambda node: node.tower == "connector" and node.kind != "embedding",
    ),
    Rule(
        name="tower-to-tower", word="connector",
        reason="stands behind the layers of a tower and leads to another's width",
        named=r"(output_)?proj\d?|encoder_projector|decoder_projector|cross_modal_\w+_transform|fc\d?"
        r"|fc_encoder|\w*_projection|adapter",
        beside="layers?|blocks|lstm|model|encoder|decoder|text_model|vision_model|detr_encoder|conv_stem"
        "|upsampler|quantizer|acoustic_encoder",
        unless_named=r"fc" ,
        inside=_OPEN,
        where=lambda node: node.kind == "linear" and not node.is_repeated,
    ),
    Rule(
        name="adapter-of-the-tower", word="connector",
        reason="an adapter behind a whole tower leads to another's width",
        named=r".*",
        under=r"adapters?|layers",
        inside=_OPEN,
        where=lambda node: any("dapter" in name for name in (node.parent_name, node.parent_class)),
    ),
    Rule(
        name="output-of-a-predictor", word="head",
        reason="the matrix behind the layers of a predictor",
        named=r"linear|proj",
        inside=_OPEN,
        where=lambda node: node.kind == "linear"
        and (node.tower == "predictor" or node.parent_name.endswith("_predictor")),
    ),
    Rule(
        name="output-of-an-encoder", word="head",
        reason="the matrices behind the layers that predict an intermediate or final output",
        named=r"out|out_mid|output|projection",
        beside=r"layers|layer|post_net",
        inside=_OPEN,
        where=lambda node: node.kind == "linear",
    ),
    Rule(
        name="convolution", word="conv",
        reason="a convolution of its own",
        inside=_OPEN,
        where=lambda node: node.kind == "conv",
    ),
    Rule(
        name="front-end-projection", word="embedding",
        reason="brings features to the tower's width before its first layer",
        named=r"(input_)?(linear|proj|projection)|input_proj_linear|dense_\d|conv_out|patcher"
        r"|boxes_\w+_project|(data|final)_proj|fc|out",
        inside=_OPEN,
        where=lambda node: node.kind in {"linear", "conv1d"} and not node.is_repeated,
    ),
))  # fmt: skip
"""What a weight is where no module around it has said so, or where its kind says more."""
