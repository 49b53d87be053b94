"""Which sort of layer a module belongs to: the innermost module that says so decides.

The walk goes from the root to the leaves. A module whose own name, class or children prove a block opens it;
what is below belongs to it until something inside proves another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.rule import Rule, first_match

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = ["assign_blocks"]

_MIXTURE = frozenset({"experts", "shared_experts", "router"})
_CLOSED = frozenset({"router", "experts", "shared_experts", "adapter", "head"})
_QKV = (frozenset({"q", "k", "v"}), frozenset({"qkv"}), frozenset({"q", "kv"}))
_GATED = (frozenset({"gate", "up", "down"}), frozenset({"gate_up", "down"}))

BLOCK_RULES: tuple[Rule, ...] = (
    Rule(
        name="adapter",
        word="adapter",
        reason="a small bottleneck added to a layer",
        named=r"lora_(a|b|embedding_a|embedding_b)|adapter|adapters|adapter_(layer|modules)|.*_adapter_list",
        outside=frozenset({"adapter"}),
    ),
    Rule(
        name="shared-expert-gate",
        word="router",
        reason="weighs the shared expert",
        named=r"shared_experts?_gate",
    ),
    Rule(
        name="router",
        word="router",
        reason="scores the experts",
        named=r"router|gate_network|topk_gate|moe_gate",
        classed=r"Router$|TopKGating$|TopkGate$",
        outside=_MIXTURE,
    ),
    Rule(
        name="gate-of-experts",
        word="router",
        reason="a gate beside experts scores them, unlike a gate_proj beside up_proj",
        named=r"gate|gating|wg",
        beside=r"experts|shared_experts?",
        outside=_MIXTURE,
    ),
    Rule(
        name="shared-experts",
        word="shared_experts",
        reason="every token passes through them",
        named=r"shared_experts?|shared_mlp",
        classed=r"SharedExperts?(MLP)?$",
        outside=frozenset({"shared_experts", "experts"}),
    ),
    Rule(
        name="experts",
        word="experts",
        reason="one of these is chosen for each token",
        named=r"experts?|expert_\d+",
        classed=r"Experts$",
        outside=_MIXTURE,
    ),
    Rule(
        name="ssm-class",
        word="ssm",
        reason="a recurrent mixer by its class",
        classed=r"Mamba\w*(Mixer|Layer)$|Mamba2?$|(Bamba|H1|Mamba2?)Mixer$|DeltaNet$|DeltaAttention$|LinearAttention$|LightningAttention$|Rglru$"
        r"|RecurrentBlock$|ShortConv$|RwkvSelfAttention$|LSTMLayer$",
        named=r"mamba|linear_attn|ssm|time_mix(er)?|short_conv|mlstm_layer",
        not_classed=r"DecoderLayer$|HybridLayer$",
        outside=_CLOSED,
    ),
    Rule(
        name="cross-attention",
        word="cross_attention",
        reason="keys and values come from another sequence",
        named=r"cross_?attn.*|.*_cross_attn|cross_?attention|enc(oder)?_(decoder_)?(attn|attention).*|encdecattention|x_attn|multihead_attn",
        classed=r"CrossAttention$",
        outside=_CLOSED | {"cross_attention", "ssm", "connector"},
    ),
    Rule(
        name="attention",
        word="attention",
        reason="named or classed as attention",
        named=r"(self_?)?(attn|attention)|selfattention|self_att|rel_attn|.*_attn|.*_attention|attention_\w*",
        classed=r"(Attention|Attn|FlashMLA|AttentionOutput|SelfOutput)(\dD|\dd)?$",
        outside=_CLOSED | {"cross_attention", "attention", "ssm"},
    ),
    Rule(
        name="queries-keys-values",
        word="attention",
        reason="only attention has queries, keys and values side by side",
        holding=_QKV,
        outside=_CLOSED | {"attention", "cross_attention", "ssm"},
    ),
    Rule(
        name="mlp",
        word="mlp",
        reason="named or classed as a feed-forward layer",
        named=r"(self_|cross_|ds_)?mlp|ffn\d?|feed_?forward\d?|ff\d?|feed_forward_macaron|densereludense|intermediate(_query)?|output_query|mlp_block",
        classed=r"(MLP|Mlp|FFN|FeedForward|FeedForwardNetwork|Intermediate|DenseActDense|DenseGatedActDense|MLPBlock)$",
        outside=_CLOSED | {"mlp", "ssm"},
    ),
    Rule(
        name="bert-output",
        word="mlp",
        reason="the second matrix of BERT's feed-forward layer stands in `output`, beside `intermediate`",
        named=r"(.+_)?output",
        beside=r"(.+_)?intermediate",
        outside=_CLOSED | {"attention", "cross_attention", "mlp", "ssm"},
    ),
    Rule(
        name="gate-up-down",
        word="mlp",
        reason="a gated feed-forward layer has gate, up and down side by side",
        holding=_GATED,
        outside=_CLOSED | {"mlp", "attention", "cross_attention", "ssm"},
    ),
    Rule(
        name="matrices-of-the-layer",
        word="mlp",
        reason="two matrices directly in the layer, in the spelling of BART and DETR",
        named=r"(fc|lin|linear|dense)_?[12]",
        beside=r"(fc|lin|linear|dense)_?[12]",
        outside=_CLOSED | {"mlp", "attention", "cross_attention", "ssm", "embedding", "conv"},
    ),
    Rule(
        name="conv-module",
        word="conv",
        reason="a convolution module, such as a Conformer's",
        classed=r"Convolution(al)?Module$|ConvModule$",
        outside=_CLOSED | {"ssm"},
    ),
    Rule(
        name="embedding",
        word="embedding",
        reason="turns input into the tower's width",
        named=r".*embeddings?|embedder|patch_embed\w*|embed_\w+|(.*_)?wte|(.*_)?wpe",
        classed=r"(Embeddings?|Embedder|PatchEmbed)(3D|2D)?$",
        outside=_CLOSED | {"attention", "cross_attention", "ssm", "embedding"},
    ),
    Rule(
        name="pooler",
        word="pooler",
        reason="one vector for the whole sequence",
        named=r"(.+_)?pooler",
        classed=r"Pooler$",
        outside=_CLOSED,
    ),
    Rule(
        name="head",
        word="head",
        reason="maps the last states to the task's output",
        named=r"(\w+_)?lm_heads?|score|classifier|cls|qa_outputs|(.*_)?predictions?|ctc_head|\w*classification_head|proj_out|\w+_head|embed_out|lm_loss",
        classed=r"(LMHead|PredictionHead|ClassificationHead|LMPredictionHead)$",
        outside=_CLOSED | {"mlp", "attention", "cross_attention", "ssm", "conv"},
    ),
    Rule(
        name="lstm",
        word="recurrent",
        reason="an LSTM or GRU by its class",
        classed=r"(LSTM|GRU)$",
        outside=_CLOSED,
    ),
)


def assign_blocks(root: Node) -> None:
    """Set the block of every node, and the node that opened it as its unit."""
    for node in root.walk():
        parent = node.parent
        above = "" if parent is None else parent.block
        rule = None if parent is None else first_match(BLOCK_RULES, node, above)
        if rule is not None:
            node.block, node.unit = rule.word, node
            node.rules["block"] = rule.name
            if rule.word == "attention" and above == "cross_attention":
                node.block = above
        else:
            node.block = above
            node.unit = node if parent is None or not above else parent.unit
        if node.place is not None:
            _settle(node)


def _settle(leaf: Node) -> None:
    """Decide what the tree left open, by the weight itself."""
    place = leaf.place
    assert place is not None
    if place.is_output_embedding:
        leaf.block, leaf.rules["block"] = "head", "output-embedding"
    elif leaf.kind == "embedding" and leaf.block not in {"embedding", "quantizer", "head"}:
        leaf.block, leaf.rules["block"] = "embedding", "embedding-kind"
    elif not leaf.block:
        leaf.unit = leaf.parent or leaf
        if leaf.tower == "connector":
            leaf.block, leaf.rules["block"] = "connector", "connector-tower"
        elif leaf.kind == "conv":
            leaf.block, leaf.rules["block"] = "conv", "convolution"
        else:
            leaf.block, leaf.rules["block"] = "other", "unknown"
