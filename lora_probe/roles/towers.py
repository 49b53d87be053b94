"""Which sub-model a module belongs to, read from the module tree downwards.

A tower begins at a module that says so by its name, its class or its siblings, and holds what is below it and
begins no other tower. What stands outside of all of them belongs to the model's own modality.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.modality import own_modality
from lora_probe.roles.rule import Rule, Table

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = ["TOWERS", "assign_towers"]

_OUTSIDE = frozenset({""})
_LANGUAGE = frozenset({"", "text"})


def _is_of_the_model(node: Node) -> bool:
    """Tell whether `node` is a part of the model as a whole: of no layer, embedding or head."""
    return not node.is_repeated and node.parent_name in {
        "",
        "model",
        "transformer",
        "text_encoder",
        "detector_model",
    }


def _is_no_part_of_a_head(node: Node) -> bool:
    own = node.parent_name not in {"positional_encoder", "head"} and not node.parent_name.endswith("_head")
    return own and "classifier" not in node.siblings


def _is_of_the_vision_tower(node: Node) -> bool:
    return not node.is_repeated


def _leads_elsewhere(node: Node) -> bool:
    """Tell whether a projection is not a text encoder's own, into a space that it shares with images."""
    return (
        not node.is_repeated and "embeddings" not in node.parent_name and node.parent_name != "text_encoder"
    )


def _has_partner(node: Node) -> bool:
    """Tell whether the encoder or decoder of the same name stands beside `node`."""
    ours, theirs = ("encoder", "decoder") if node.name.endswith("encoder") else ("decoder", "encoder")
    return node.name.replace(ours, theirs) in node.siblings


TOWERS = Table((
    Rule(
        name="connector", word="connector",
        reason="projectors, mergers and resamplers carry one tower's states into another's width",
        named="((multi_?modal|mm|modality|vision|vl|speech|audio|layerwise|spatial|prompt)_)?projectors?"
        r"|(\w+_)?connector|(\w+_)?merger|(\w+_)?merger_list|(\w+_)?aligner|\w*resampler(_model)?|qformer"
        "|vision_adapter|vision_projection|language_projection|image_to_text_projection"
        r"|\w+_to_\w+_proj(ection)?|encoder_to_decoder|embed_vision|embed_audio|spatial_perceiver"
        r"|img_projection_\w+|(up|down)_proj_for_\w+|mm_projection|img_projection",
        classed=r"\w*(MultiModalProjector|Connector|QFormer(Model)?|PatchMerger|Resampler|Aligner|QFormerDownsampler)",
        unless_classed=r"\w*ScaleProjector",
        outside=frozenset({"connector", "prompt"}),
        where=_is_no_part_of_a_head,
    ),
    Rule(
        name="projector-of-a-vision-tower", word="connector",
        reason="GLM's and CogVLM's way from a vision tower to the language model",
        named=r"linear_proj",
        inside=frozenset({"vision"}),
        where=_is_of_the_vision_tower,
    ),
    Rule(
        name="bare-projector", word="connector",
        reason="a network between a vision tower and a language model, not named after either",
        named=r"mlp\d?",
        beside=r"language_model",
        inside=_OUTSIDE,
    ),
    Rule(
        name="lone-projection", word="connector",
        reason="one tower's projection without a counterpart in the other leads into the other",
        named=r"(visual|text)_projection",
        beside=r"encoder|decoder|detr_encoder|language_model",
        apart=r"(visual|text|image|audio)_projection|text_model",
        inside=_OUTSIDE,
        where=_leads_elsewhere,
    ),
    Rule(
        name="quantizer", word="quantizer",
        reason="a codec's codebooks stand between its encoder and decoder",
        named=r"quantizer|quantize",
        outside=frozenset({"connector"}),
    ),
    Rule(
        name="vocoder", word="vocoder",
        reason="turns acoustic features into a wave",
        named=r"vocoder|token2wav|code2wav|bigvgan\w*",
        classed=r"\w*(Vocoder|HifiGan)",
    ),
    Rule(
        name="diffusion", word="diffusion",
        reason="denoises latents",
        named=r"diffusion_(head|model)|flow_head",
        inside=_OUTSIDE,
    ),
    Rule(
        name="action-expert", word="action",
        reason="reads and writes states and actions",
        named=r"dit|action_expert|embed_action_time|\w*action_(in|out)_proj"
        "|(embed|predict)_(state|action|return|timestep)",
        inside=_OUTSIDE,
    ),
    Rule(
        name="prompt", word="prompt",
        reason="encodes what a person points at",
        named=r"prompt_encoder|geometry_encoder|visual_prompter",
        inside=_OUTSIDE,
    ),
    Rule(
        name="memory", word="memory",
        reason="keeps past frames of a video",
        named="memory_(encoder|attention)|mask_downsample|object_pointer_proj"
        "|temporal_positional_encoding_projection_layer",
        inside=_OUTSIDE,
    ),
    Rule(
        name="protein", word="protein",
        reason="reads a protein's sequence or structure",
        named=r"protein_encoder",
        inside=_OUTSIDE,
    ),
    Rule(
        name="predictor", word="predictor",
        reason="predicts one quantity from another tower's states",
        named=r"predictor|(duration|pitch|energy|variance)_predictor",
        inside=_OUTSIDE,
    ),
    Rule(
        name="multimodal", word="multimodal",
        reason="layers over the states of two towers",
        named=r"multimodal_model|cross_modal_\w+_(layers|pooler|transform)",
        inside=_OUTSIDE,
    ),
    Rule(
        name="encoder-and-decoder", word="encoder",
        reason="an encoder with its decoder beside it",
        named=r"(text_|detr_)?encoder",
        inside=_LANGUAGE,
        where=_has_partner,
    ),
    Rule(
        name="decoder-and-encoder", word="decoder",
        reason="a decoder with its encoder beside it",
        named=r"(text_|detr_)?decoder",
        inside=_LANGUAGE,
        where=_has_partner,
    ),
    Rule(
        name="decoder-of-a-backbone", word="decoder",
        reason="a decoder that reads the states of an image backbone",
        named=r"decoder|mask_decoder",
        beside=r"vision_encoder|pixel_level_module|\w*backbone|prompt_encoder",
        inside=_OUTSIDE,
    ),
    Rule(
        name="behind-the-encoder", word="encoder",
        reason="reads or feeds the encoder, by its name",
        named=r"enc(oder)?_\w+",
        beside=r"encoder",
        inside=_OUTSIDE,
        where=lambda node: "decoder" in node.siblings,
    ),
    Rule(
        name="shared", word="shared",
        reason="one embedding for encoder and decoder",
        named=r"shared|embeddings|patch_embed\w*",
        inside=_LANGUAGE,
        where=lambda node: bool(node.siblings & {"decoder", "text_decoder"}),
    ),
    Rule(
        name="vision-tower", word="vision",
        reason="named for images or video",
        named=r"(high_res_)?(vision|visual|image|video|img)_?(model|tower|encoder|transformer|processor|backbone|neck|proj)|visual|vpm|vqmodel|pixel_level_module|vit|vision|(\w+_)?neck",
        classed=r"\w*Vision(Model|Transformer\w*|Tower|Encoder)|\w*Multiframe\w*",
        inside=_OUTSIDE,
    ),
    Rule(
        name="image-backbone", word="vision",
        reason="a backbone that reads no tokens",
        named=r"backbone|conv_encoder|keypoint_detector",
        inside=_OUTSIDE,
        where=lambda node: "tokens" not in node.senses,
    ),
    Rule(
        name="audio-tower", word="audio",
        reason="named for sound or speech, or an audio codec",
        named="(audio|speech|sound|acoustic|semantic|asr)_(tokenizer_)?(model|tower|encoder|embed)(_model)?|apm|codec_model|diarization_model|depth_decoder|coarse_acoustics|fine_acoustics|posterior_encoder|flow",
        classed=r"\w*Audio(Model|Encoder)|\w*CTCEncoder",
        inside=_OUTSIDE,
    ),
    Rule(
        name="encoder-of-a-language-model", word="encoder",
        reason="an encoder of another modality, beside a language model",
        named=r"encoder",
        beside=r"language_model|text_model|llm",
        inside=_OUTSIDE,
    ),
    Rule(
        name="head-of-several-towers", word="head",
        reason="a task head beside several towers",
        named=r"classifier|score|\w*classification_head|(itm|mlm|mim|mmm_\w+)_head",
        beside=r"(vision|image|audio)_model|multimodal_model",
        inside=_OUTSIDE,
        where=lambda node: "text_model" in node.siblings,
    ),
    Rule(
        name="text-tower", word="text",
        reason="named for text or language",
        named=r"(language|text|llm)_?(model|backbone|encoder|decoder|encoder_model)|llm",
        classed=r"\w*TextModel",
        inside=_OUTSIDE,
    ),
    Rule(
        name="of-images", word="vision",
        reason="named for images",
        named=r"(vision|visual|image|img)_\w+|\w+_(vision|visual_projection)",
        inside=_OUTSIDE,
        where=lambda node: _is_of_the_model(node) and "tokens" not in node.senses,
    ),
    Rule(
        name="of-text", word="text",
        reason="named for text",
        named=r"text_\w+",
        inside=_OUTSIDE,
        where=_is_of_the_model,
    ),
    Rule(
        name="of-sound", word="audio",
        reason="named for sound",
        named=r"(audio|speech)_\w+",
        unless_named=r"\w+_head",
        inside=_OUTSIDE,
        where=_is_of_the_model,
    ),
))  # fmt: skip
"""Where a tower begins; tried at every module on the way down."""


def assign_towers(root: Node, *, names: str) -> None:
    """Set every node's tower and the rule that decided; `names` are the model's type and architecture."""
    seen: dict[object, Rule | None] = {}
    for node in root.walk():
        above, above_rule = (
            (node.parent.tower, node.parent.tower_rule) if node.parent is not None else ("", "")
        )
        rule = TOWERS.first(node, above, seen)
        if node.parent is None and rule is not None and rule.word != "connector":
            # A whole model has its own modality; only a connector is known by the name of its class.
            rule = None
        node.tower, node.tower_rule = (rule.word, rule.name) if rule else (above, above_rule)
    own = own_modality(root, names=names)
    for node in root.walk():
        if not node.tower:
            node.tower, node.tower_rule = own
