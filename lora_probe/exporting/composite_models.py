"""The multimodal models that LLaMA-Factory knows, and by which parts of a path it tells their towers apart.

Source: the calls of `_register_composite_model` in `model/model_utils/visual.py` of LLaMA-Factory 0.9.5; a
test compares them with the installed ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["COMPOSITE_MODELS", "Towers"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Towers:
    """Parts of paths that mark the towers of one sort of model."""

    vision: tuple[str, ...] = ("vision_tower",)
    projector: tuple[str, ...] = ("multi_modal_projector",)
    language: tuple[str, ...] = ("language_model", "lm_head")
    conflicts: tuple[str, ...] = ()
    """Parts of paths that are never adapted."""

    def matched(self, names: Sequence[str], paths: Iterable[str], frozen: Sequence[bool]) -> tuple[str, ...]:
        """Return the paths that contain one of `names` and lie in no frozen tower.

        `frozen` says whether vision, projector and language are, in this order (`patch_target_modules`).
        """
        kept_out = list(self.conflicts)
        for keys, is_frozen in zip((self.vision, self.projector, self.language), frozen, strict=True):
            kept_out += keys if is_frozen else ()
        return tuple(
            path
            for path in paths
            if any(name in path for name in names) and not any(part in path for part in kept_out)
        )


_LLAVA = Towers()
_VISUAL = Towers(
    vision=("visual.patch_embed", "visual.blocks"), projector=("visual.merger",), conflicts=("patch_embed",)
)
_QWEN3_VL = replace(
    _VISUAL,
    vision=("visual.pos_embed", "visual.patch_embed", "visual.blocks", "visual.deepstack_merger_list"),
)
_QWEN3_5 = replace(
    _VISUAL,
    vision=("visual.pos_embed", "visual.patch_embed", "visual.blocks"),
    projector=("model.visual.merger",),
)
_RESAMPLED = Towers(vision=("vpm",), projector=("resampler",), language=("llm",))

COMPOSITE_MODELS: Mapping[str, Towers] = {
    **dict.fromkeys(
        ("gemma3", "internvl", "interns1", "kimi_vl", "llava", "llava_next", "llava_next_video", "paligemma",
         "video_llava"),
        _LLAVA,
    ),
    **dict.fromkeys(("llama4", "mllama"), Towers(vision=("vision_model",))),
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm_ocr", "qwen2_vl", "qwen2_5_vl"), _VISUAL),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), _QWEN3_VL),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe"), _QWEN3_5),
    "Keye": Towers(
        vision=("visual.vision_model.patch_embedding", "visual.vision_model.encoder"),
        projector=("mlp_AR",),
        language=("model", "lm_head"),
        conflicts=("patch_embedding",),
    ),
    "dots_ocr": Towers(
        projector=("vision_tower.merger",), language=("model", "lm_head"), conflicts=("merger",)
    ),
    "gemma3n": Towers(
        vision=("vision_tower", "audio_tower"), conflicts=("timm_model", "subsample_conv_projection")
    ),
    "gemma4": Towers(
        vision=("vision_tower", "audio_tower"),
        projector=("model.embed_vision", "model.embed_audio"),
        conflicts=("per_layer_projection_norm",),
    ),
    "minicpmv": _RESAMPLED,
    "minicpmv4_6": Towers(
        vision=("model.vision_tower",),
        projector=("model.merger",),
        language=("model.language_model", "lm_head"),
    ),
    "minicpmo": replace(
        _RESAMPLED,
        vision=("vpm", "apm", "audio_avg_pooler", "audio_projection_layer", "tts"),
        conflicts=("audio_projection_layer",),
    ),
    "mistral3": Towers(projector=("model.multi_modal_projector",)),
    "qwen2_audio": Towers(vision=("audio_tower",)),
    "qwen2_5_omni_thinker": Towers(
        vision=("visual.patch_embed", "visual.blocks", "audio_tower"),
        projector=("visual.merger", "audio_tower.proj"),
        language=("model", "lm_head"),
        conflicts=("patch_embed",),
    ),
    "qwen3_omni_moe_thinker": replace(
        _QWEN3_VL,
        vision=(*_QWEN3_VL.vision, "audio_tower"),
        projector=("visual.merger", "audio_tower.proj"),
    ),
}  # fmt: skip
"""Towers by model type."""
