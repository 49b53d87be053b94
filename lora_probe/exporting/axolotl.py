"""Axolotl: the LoRA part of its YAML.

Source: `axolotl/utils/schemas/peft.py` and `axolotl/loaders/adapter.py` of Axolotl 0.19. The fields go to a
`LoraConfig` one by one; `bias` is always "none" and the task follows from the model's class. Alphas are whole
numbers. `lora_target_linear` is never used: it takes leaf names of every layer with "Linear" in its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.exporting.documents import yaml_text
from lora_probe.exporting.through_peft import first_exact

if TYPE_CHECKING:
    from lora_probe.exporting.plan import Plan

__all__ = ["write"]

_TASKS = ("CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS")


def write(plan: Plan) -> str:
    """Return the fields to put into a training configuration.

    Raises:
        NotExportable: Axolotl has no field for an option.

    """
    plan.allow_only(
        "use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern",
        "trainable_token_indices", "ensure_weight_tying", "task_type",
    )  # fmt: skip
    plan.allow_tasks(*_TASKS)
    if any(alpha != int(alpha) for alpha in plan.settings.alpha_pattern.values()):
        raise plan.refusal("it takes whole numbers only in lora_alpha_pattern")
    alpha = plan.whole_alpha()
    form = first_exact(
        plan, plan.forms(layers=True, expressions=True), otherwise="it hands its lists to PEFT as they are"
    )
    said = form.to_lora_config()
    fields: dict[str, Any] = {
        "adapter": "lora",
        "lora_r": form.rank,
        "lora_alpha": alpha,
        "lora_dropout": form.dropout,
        "lora_target_modules": said.get("target_modules", []),
    }
    fields.update({ours: said[theirs] for theirs, ours in _NAMES.items() if theirs in said})
    if isinstance(form.layers_to_transform, int):
        fields["peft_layers_to_transform"] = [form.layers_to_transform]
    return yaml_text(plan.header(), fields)


_NAMES = {
    "target_parameters": "lora_target_parameters",
    "layers_to_transform": "peft_layers_to_transform",
    "modules_to_save": "lora_modules_to_save",
    "rank_pattern": "lora_rank_pattern",
    "alpha_pattern": "lora_alpha_pattern",
    "use_rslora": "peft_use_rslora",
    "use_dora": "peft_use_dora",
    "trainable_token_indices": "peft_trainable_token_indices",
    "ensure_weight_tying": "peft_ensure_weight_tying",
}
"""Axolotl's field for each argument of a `LoraConfig`."""
