"""Which sub-model a module belongs to, read from the module tree downwards.

A tower begins at a module that says so by its name or class, and holds everything below it that begins no
other tower. What stands outside of every such module belongs to the model's own modality.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.rule import Rule, first_match

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = ["assign_towers"]

_OUTSIDE = frozenset({""})
_LANGUAGE = frozenset({"", "text"})

TOWER_RULES: tuple[Rule, ...] = (
    Rule(
        name="connector",
        word="connector",
        reason="projectors, mergers and resamplers carry one tower's states into another's width",
        named=r"(multi_?modal_|mm_|modality_|vision_|vl_)?projector|.*_connector|connector|(.+_)?merger|(.+_)?merger_list"
        r"|(.+_)?aligner|.*resampler(_model)?|qformer|vision_adapter|vision_projection|language_projection"
        r"|image_to_text_projection|embed_vision|embed_audio",
        classed=r"MultiModalProjector|Connector$|QFormer|PatchMerger$|Resampler|Aligner",
        not_classed=r"ScaleProjector",
        outside=frozenset({"connector"}),
    ),
    Rule(
        name="quantizer",
        word="quantizer",
        reason="a codec's codebooks stand between its encoder and decoder",
        named=r"quantizer|quantize",
        outside=frozenset({"vision", "connector"}),
    ),
    Rule(
        name="vocoder",
        word="vocoder",
        reason="turns acoustic features into a wave",
        named=r"vocoder|token2wav|code2wav",
        classed=r"Vocoder|HifiGan$",
    ),
    Rule(
        name="prompt",
        word="prompt",
        reason="encodes what a person points at",
        named=r"prompt_encoder|geometry_encoder",
    ),
    Rule(
        name="memory",
        word="memory",
        reason="keeps past frames of a video",
        named=r"memory_(encoder|attention)",
    ),
    Rule(
        name="protein",
        word="protein",
        reason="reads a protein's sequence or structure",
        named=r"protein_encoder",
        inside=_OUTSIDE,
    ),
    Rule(
        name="vision-tower",
        word="vision",
        reason="named for images or video, or an image backbone",
        named=r"(high_res_)?(vision|visual|image|video|img)_?(model|tower|encoder|transformer|processor|embed|backbone)"
        r"|visual|vqmodel|backbone|conv_encoder|pixel_level_module",
        classed=r"Vision(Model|Transformer|Tower|Encoder)",
        inside=_OUTSIDE,
    ),
    Rule(
        name="audio-tower",
        word="audio",
        reason="named for sound or speech, or a codec",
        named=r"(audio|speech|sound|acoustic|semantic|asr)_(tokenizer_)?(model|tower|encoder|decoder|embed)(_model)?"
        r"|codec_model|diarization_model",
        classed=r"Audio(Model|Encoder)",
        inside=_OUTSIDE,
    ),
    Rule(
        name="encoder",
        word="encoder",
        reason="an encoder with a decoder beside it",
        named=r"(text_)?encoder",
        beside=r"(text_)?decoder",
        inside=_LANGUAGE,
    ),
    Rule(
        name="decoder",
        word="decoder",
        reason="a decoder with an encoder beside it",
        named=r"(text_|detr_|mask_)?decoder",
        beside=r"(.*_)?encoder",
        inside=_LANGUAGE,
    ),
    Rule(
        name="shared",
        word="shared",
        reason="one embedding for encoder and decoder",
        named=r"shared",
        inside=_LANGUAGE,
    ),
    Rule(
        name="text-tower",
        word="text",
        reason="named for text or language",
        named=r"(language|text|llm)_?(model|backbone|encoder|decoder)",
        classed=r"TextModel",
        inside=_OUTSIDE,
    ),
    Rule(
        name="of-vision",
        word="vision",
        reason="named for images",
        named=r"(vision|visual|image)_.*",
        inside=_OUTSIDE,
    ),
    Rule(name="of-text", word="text", reason="named for text", named=r"text_.*", inside=_OUTSIDE),
    Rule(
        name="of-audio", word="audio", reason="named for sound", named=r"(audio|speech)_.*", inside=_OUTSIDE
    ),
)


def assign_towers(root: Node, *, model_type: str, architecture: str) -> None:
    """Set the tower of every node."""
    for node in root.walk():
        above = "" if node.parent is None else node.parent.tower
        rule = None if node.parent is None else first_match(TOWER_RULES, node, above)
        node.tower = rule.word if rule else above
        if rule:
            node.rules["tower"] = rule.name
    towers = {node.tower for node in root.walk() if node.place is not None}
    default = _default(root, towers, f"{model_type} {architecture} {root.class_name}")
    for node in root.walk():
        if not node.tower:
            node.tower = default


def _default(root: Node, towers: set[str], words: str) -> str:
    if "decoder" in towers and "vision" not in towers:
        return "decoder"
    if "text" in towers:
        return "text"
    places = [node.place for node in root.walk() if node.place is not None and not node.tower]
    if any(place.is_input_embedding or place.is_output_embedding for place in places):
        return "text"
    kinds = {str(place.kind) for place in places}
    if "embedding" in kinds:
        return "text"
    return "vision"
