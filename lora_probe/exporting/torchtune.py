"""torchtune: the LoRA arguments of a model builder, as YAML for its recipes.

Source: the `lora_…` builders in `torchtune/models` and `torchtune/modules/peft` of torchtune 0.6.1, the
last release. Models are written anew there, with names of their own: the attention is chosen by projection,
an MLP as a whole, each in all layers. Phi-3's fused weights are separate there, so that an adapter on them
is another one. Which builder belongs to a checkpoint is for the recipe to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.exporting.by_role import check_one_rank, whole_roles
from lora_probe.exporting.documents import yaml_text

if TYPE_CHECKING:
    from lora_probe.exporting.plan import Plan

__all__ = ["write"]

MODEL_TYPES = frozenset({"gemma", "gemma2", "llama", "mistral", "phi3", "qwen2"})
"""Types with builders that take these arguments; the one for Llama 3.2 Vision takes others."""
_ATTENTION = {
    ("attention", "q"): "q_proj",
    ("attention", "k"): "k_proj",
    ("attention", "v"): "v_proj",
    ("attention", "o"): "output_proj",
}
_MLP = frozenset({("mlp", "gate"), ("mlp", "up"), ("mlp", "down")})


def write(plan: Plan) -> str:
    """Return the arguments to put below `model`, beside its `_component_`.

    Raises:
        NotExportable: torchtune has no such model, no such option or no words for these targets.

    """
    plan.allow_only("use_dora", "task_type")
    plan.allow_tasks("CAUSAL_LM")
    if plan.graph.model_type not in MODEL_TYPES:
        raise plan.refusal(f"it has no builder with LoRA for models of type {plan.graph.model_type}")
    check_one_rank(plan)
    roles = whole_roles(plan)
    output = {site.path for site in plan.sites} & {plan.graph.output_embedding}
    unknown = [
        site.path
        for site in plan.sites
        if (site.block, site.part) not in {*_ATTENTION, *_MLP} and site.path not in output
    ]
    if unknown:
        raise plan.refusal("it has no name for these layers", unknown)
    mlp = roles & _MLP
    if mlp and mlp != _MLP:
        missing = ", ".join(sorted(part for _, part in _MLP - mlp))
        raise plan.refusal(f"it adapts an MLP as a whole, and {missing} would be left out")
    if output and any(site.tied_to for site in plan.sites if site.path in output):
        raise plan.refusal(
            "it does not adapt an output that is tied to the embedding", sorted(map(str, output))
        )
    model: dict[str, Any] = {
        "lora_attn_modules": [name for role, name in _ATTENTION.items() if role in roles],
        "apply_lora_to_mlp": bool(mlp),
        "lora_rank": plan.settings.rank,
        "lora_alpha": plan.settings.alpha,
        "lora_dropout": plan.settings.dropout,
    }
    # Builders for models with tied outputs have no such argument, and some none for DoRA.
    if output:
        model["apply_lora_to_output"] = True
    if plan.settings.use_dora:
        model["use_dora"] = True
    return yaml_text(plan.header(), {"model": model})
