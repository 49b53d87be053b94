"""The rules for parts: how published code spells each projection, and what shapes prove otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.parts import PartRule, has, is_doubled, is_in_chain, is_kind, lacks, spelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.roles.parts import Member, Unit

__all__ = ["PROJECTIONS", "first_part"]


def first_part(block: str, member: Member, unit: Unit) -> PartRule | None:
    """Return the rule that decides the part of `member`, or None where its own name is the part."""
    return next((rule for rule in PROJECTIONS.get(block, ()) if rule.applies(member, unit)), None)


def _is_input_table(member: Member, _: Unit) -> bool:
    return member.is_input and member.kind == "embedding"


def _widens(member: Member, _: Unit) -> bool:
    return member.out_features > member.in_features


def _is_output(member: Member, _: Unit) -> bool:
    return member.is_output


_INDEXER = (
    spelled("index_weights", "weights_proj", under="indexer"),
    spelled("index_qk", "index_qk_proj qk_proj", under="indexer"),
    spelled("index_q", "wq_b q_b_proj wq q_proj", under="indexer"),
    spelled("index_k", "wk k_proj", under="indexer"),
    spelled("index_kv", "kv_proj", under="indexer"),
    spelled("index_gate", r"gate_proj \w*compress_gate", under="indexer"),
    spelled("compress_kv", "kv_proj", under="compressor"),
    spelled("compress_gate", "gate_proj", under="compressor"),
)

_LOW_RANK = (
    spelled("qkv_down", "qkv_a_proj qkv_a_proj_with_mqa fused_qkv_a_proj_with_mqa wqkv_a"),
    spelled("q_down", "q_a_proj wq_a q_down_proj q_compress"),
    spelled("q_up", "q_b_proj wq_b q_up_proj"),
    spelled("kv_down", "kv_a_proj_with_mqa kv_a_proj wkv_a kv_down_proj kv_compress"),
    spelled("kv_up", "kv_b_proj wkv_b kv_up_proj"),
    spelled("k_up", "k_b_proj k_up_proj"),
    spelled("v_up", "v_b_proj v_up_proj"),
    spelled("o_down", "o_a_proj wo_a"),
    spelled("o_up", "o_b_proj wo_b"),
)

_ATTENTION = (
    *_INDEXER,
    *_LOW_RANK,
    spelled("conv_weights", "weight_proj", under=r"\w*s?conv"),
    spelled("reduction", r"sr \w*_reduction reduction \w_aggregation"),
    spelled("q_gate", "q_gate_proj"),
    spelled("q_global", "query_global"),
    spelled("k_global", "key_global"),
    spelled("v_global", "value_global"),
    spelled("offsets", "sampling_offsets"),
    spelled("weights", "attention_weights"),
    spelled(
        "position",
        "linear_pos pos_proj proj_pos relative_k_proj r_proj r r_kernel r_net pos_key_proj"
        " pos_query_proj pos_q_proj gru_rel_pos_linear (pos_)?bias_[uv] rel_logits_proj"
        r" relative_pos_embeddings \w*position_bias_mlp",
    ),
    spelled("position", "proj", under="rel_logits_proj"),
    spelled("sink", "sink_proj sinks"),
    spelled("decay", "dt_proj"),
    spelled("gate", "gate_proj g_proj output_gate gate gating gate_linear attn_gate attn_layer gate_fc"),
    spelled(
        "qkv",
        r"qkv qkv_proj wqkv w_qkv linear_qkv w_pack (\w+_)?query_key_value c_attn att_proj in_proj_weight"
        " in_proj to_qkv qkv_projection queries_keys_values mixed_qkv qkv_layer",
    ),
    spelled("qk", "qk qk_proj query_key"),
    spelled("kv", "kv kv_proj to_kv key_value keys_values wkv w_kv linear_kv"),
    spelled(
        "q",
        "q q_proj add_q_proj q_lin q_linear q_head q_proj_weight query query_proj query_layer"
        " query_projection queries (layout|e2e|e2w|w2e)_query wq w_q to_q to_query linear_q project_q"
        " projection_query input_linear",
    ),
    spelled(
        "k",
        "k k_proj add_k_proj k_lin k_linear k_head k_proj_weight key key_proj key_layer key_projection"
        " keys layout_key key_(protein|structure|msa) wk w_k to_k to_key linear_k project_k"
        " projection_key",
    ),
    spelled(
        "v",
        "v v_proj add_v_proj v_lin v_linear v_head v_proj_weight value value_proj value_layer"
        " value_projection values layout_value value_(protein|structure|msa) values_(text|vision)_proj"
        " v_proj_(current|delayed) wv w_v to_v to_value linear_v project_v projection_value",
    ),
    spelled(
        "o",
        "o o_proj o_net out out_proj out_lin out_(text|vision)_proj output output_proj output_projection"
        " output_linear wo w_o to_out to_add_out linear_out linear_proj project_o proj proj_out projection"
        " projection_layer attn_out attention_out attention_output c_proj post post_proj final"
        r" (\w+_expert_)?dense linear",
    ),
    spelled("o", "conv1d", under="post_attention"),
    PartRule(
        name="query-of-two-streams", part="q",
        reason="where image and text attend to each other, the image's states ask",
        named="vision_proj", where=has("values_text_proj"),
    ),
    PartRule(
        name="key-of-two-streams", part="k",
        reason="where image and text attend to each other, the text's states answer",
        named="text_proj", where=has("values_text_proj"),
    ),
    PartRule(
        name="convolution-in-attention", part="conv",
        reason="a convolution inside of attention",
        where=is_kind("conv"),
    ),
    spelled("conv", r"conv\w* \w*conv\d?d? depthwise pointwise"),
)  # fmt: skip


def _chain(*, entries: bool) -> tuple[PartRule, ...]:
    return (
        PartRule(
            name="first-of-chain", part="up",
            reason="the first of matrices that feed one another",
            where=is_in_chain(None, 1, entries=entries),
        ),
        PartRule(
            name="last-of-chain", part="down",
            reason="the last of matrices that feed one another",
            where=is_in_chain(-1, None, entries=entries),
        ),
        PartRule(
            name="middle-of-chain", part="inner",
            reason="between the first and the last of matrices that feed one another",
            where=is_in_chain(1, -1, entries=entries),
        ),
    )  # fmt: skip


_MLP = (
    spelled("conv", r"\w*depth_?wise\w* dwconv"),
    spelled("latent_down", "pre_expert_proj fc1_latent_proj"),
    spelled("latent_up", "post_expert_proj fc2_latent_proj"),
    spelled("gate_up", "gate_up_proj gate_and_up_proj up_gate_proj w12 w13 weights_in gate_up"),
    PartRule(
        name="gate-up-by-shape", part="gate_up",
        reason="writes twice what the only other matrix reads: gate and up in one",
        where=is_doubled,
    ),
    PartRule(
        name="layers-between", part="inner",
        reason="between a first and a last matrix that say so",
        named="layers", where=has("proj_in"),
    ),
    *_chain(entries=True),
    PartRule(
        name="gate-without-up", part="up",
        reason="with nothing to be multiplied onto, it is no gate",
        named="gate_proj", where=lacks("up_proj", "w3"),
    ),
    spelled("gate", "gate_proj gate w_gate wi_0 w_0 proj_up_gate fc1_g gate_fc receptance linear_gate"
    " gate_layer"),
    PartRule(
        name="gate-of-qwen", part="gate",
        reason="beside w1 and c_proj, the second is the gate",
        named="w2", where=has("c_proj"),
    ),
    PartRule(
        name="gate-of-grok", part="gate",
        reason="beside linear_v, the unnumbered matrix is the gate",
        named="linear", where=has("linear_v"),
    ),
    PartRule(
        name="down-of-grok", part="down",
        reason="beside linear_v, the numbered matrix leads back",
        named="linear_1", where=has("linear_v"),
    ),
    PartRule(
        name="gate-of-three", part="gate",
        reason="beside a third matrix, the first is the gate",
        named="w1", where=has("w3", "v1"),
    ),
    spelled("up", "dense conv1d", under=r"(\w+_)?inter(mediate)?(_query)?"),
    spelled("down", "dense conv1d", under=r"(\w+_)?output(_query)?"),
    spelled(
        "up",
        "up up_proj w_up w1 w3 v1 wi wi_1 w_1 w_in fc_?1 fc1_x fc_in c_fc lin1 linear_?1 linear_fc1"
        " linear_in linear_up linear_v input_linear dense_?1 dense_h_to_4h intermediate"
        " intermediate_dense proj_in proj_up in_proj layer_?1 ffw_layer_1 conv_?1 pwconv1 key ffn"
        " ff_proj mlp_in",
    ),
    spelled(
        "down",
        "down down_proj w_down w2 wo w_out fc_?2 fc_out c_proj lin2 linear_?2 linear_fc2 linear_out"
        " linear_down output_linear dense_?2 dense_4h_to_h output output_dense proj_out proj_down"
        " out_proj layer_?2 ffw_layer_2 conv_?2 pwconv2 value ffn_output ff_out weights_out mlp_out",
    ),
    *_chain(entries=False),
    PartRule(
        name="convolution-in-feed-forward", part="conv",
        reason="a convolution between up and down",
        where=is_kind("conv"),
    ),
)  # fmt: skip

_SSM = (
    PartRule(
        name="query-of-rwkv", part="q",
        reason="beside a gate of its own, the receptance reads the state",
        named="receptance", where=has("gate"),
    ),
    spelled("in", "in_proj in_proj_qkvz linear_x input_projection"),
    spelled("qkv", "in_proj_qkv qkv_proj qkv"),
    spelled("qk", "qk_proj qk"),
    spelled("b_decay", "in_proj_ba"),
    spelled("gate", "in_proj_z z_proj g_proj gate gate_proj output_gate linear_y ogate_preact receptance"),
    spelled("g_down", "g_a_proj"),
    spelled("g_up", "g_b_proj"),
    spelled("decay_down", "f_a_proj"),
    spelled("decay_up", "f_b_proj"),
    spelled("decay", "in_proj_a a_proj f_proj fgate_preact recurrent_gate_weight"),
    spelled("b", "in_proj_b b_proj"),
    spelled("c", "c_proj"),
    spelled("input_gate", "igate_preact input_gate_weight"),
    spelled("x", "x_proj x_proj_weight"),
    spelled("dt", "dt_proj dt_proj_weight"),
    spelled("q", "q q_proj query"),
    spelled("k", "k k_proj key"),
    spelled("v", "v v_proj value"),
    spelled("out", "out_proj o_proj linear_out output out o"),
    PartRule(
        name="convolution-in-mixer", part="conv",
        reason="a convolution inside of a recurrent mixer",
        where=is_kind("conv"),
    ),
)  # fmt: skip

_EMBEDDING = (
    PartRule(
        name="input-embedding", part="token",
        reason="the model's own input embedding",
        where=_is_input_table,
    ),
    spelled("per_layer", r"\w*per_layer\w*"),
    spelled(
        "relative_position",
        r"relative_attention_bias \w*relative_pos\w* rel_pos\w* rel_embeddings rel_attn_embed"
        " relative_bias distance_embedding pe_k position_bias biases box_rpb_embed_[xy]",
    ),
    PartRule(
        name="relative-position-module", part="relative_position",
        reason="stands in a module of relative positions",
        under=r"relative_(attention|position)_bias\w*|box_rpb_embed_[xy]",
    ),
    spelled(
        "position",
        r"\w*pos(ition)?(_?(embed|emb|enc)\w*)?(_table)? \w*position\w* \w*wpe reference_points?(_embed)?"
        r" \w+_pos_enc_project pos_conv_embed",
    ),
    PartRule(
        name="position-module", part="position",
        reason="stands in a module of positions",
        under=r"pos_conv_embed|query_pos_head|ref_point_head|reference_points_head|\w*time_?step_?\w*"
        "|positional_encoder",
    ),
    spelled("token_type", r"token_type_\w+ \w*segment\w*"),
    spelled("query", r"quer(y|ies)_\w+ (\w+_)?(iou|mask|obj_score|presence|hq)_tokens? latents"),
    spelled("patch", r"\w*patch_\w+ patcher vision_embed_tokens"),
    PartRule(
        name="patch-module", part="patch",
        reason="stands in a module of patches",
        under=r"\w*patch\w*", where=is_kind("conv", "linear"),
    ),
    PartRule(
        name="vocabulary", part="token",
        reason="a table that is named for tokens or words, or for nothing else",
        named=r"(\w*_)?tok(en)?s?(_\w+)?|\w*words?_embeddings?|\w*wte|emb|embed|embed_in|embeddings?|shared"
        r"|input_embedding|input_embeds_layers?|\w*_embed_layer|embed_\w*tokens|generation_embeddings"
        r"|hashbucket\w*",
        where=is_kind("embedding"),
    ),
    PartRule(
        name="matrix-of-an-embedding", part="projection",
        reason="a matrix, not a table: changes the width",
        where=is_kind("linear", "conv1d"),
    ),
    PartRule(
        name="patch-convolution", part="patch",
        reason="the projection of an embedding, as a convolution",
        named=r"proj|projection|(\w+_)?embeddings", where=is_kind("conv"),
    ),
    PartRule(
        name="stem", part="stem",
        reason="a convolution over the raw input",
        where=is_kind("conv"),
    ),
)  # fmt: skip

_HEAD = (
    PartRule(
        name="output-embedding", part="lm_head",
        reason="the model's own output embedding",
        where=_is_output,
    ),
    spelled("transform", "dense", under=r"transform|(\w+_)?lm_head|(\w+_)?predictions"),
    spelled("lm_head", "lm_head embed_out lm_loss output_projection output_layer ff_out"),
    PartRule(
        name="widening-output", part="lm_head",
        reason="the last matrix of a model, to more than the model's width",
        named="output", where=_widens,
    ),
    spelled("lm_head", "decoder", under=r"predictions|lm_head"),
)  # fmt: skip

PROJECTIONS: Mapping[str, tuple[PartRule, ...]] = {
    "attention": _ATTENTION,
    "cross_attention": _ATTENTION,
    "mlp": _MLP,
    "experts": _MLP,
    "shared_experts": _MLP,
    "ssm": _SSM,
    "embedding": _EMBEDDING,
    "head": _HEAD,
}
"""Block to its rules, in the order in which they are tried."""
