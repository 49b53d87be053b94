"""TRL: the LoRA part of `ModelConfig`, as YAML for ``trl sft --config``.

Source: `ModelConfig` in `trl/trainer/model_config.py` and `get_peft_config` in `trl/trainer/utils.py` of
TRL 1.16. A list with one element becomes a text there, which PEFT reads as a regular expression: a single
name fails, so that it is written as the expression that means it. That is also how an expression gets
through. `bias` is always "none", the default task CAUSAL_LM and alpha a whole number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_probe.exporting.documents import yaml_text
from lora_probe.exporting.through_peft import as_expression, first_exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.exporting.plan import Plan
    from lora_probe.peft_rules import LoraSettings

__all__ = ["write"]


def write(plan: Plan) -> str:
    """Return the fields of `ModelConfig` that concern LoRA.

    Raises:
        NotExportable: `ModelConfig` has no field for an option or for these targets.

    """
    plan.allow_only("use_dora", "use_rslora", "modules_to_save", "task_type")
    if plan.task is None:
        raise plan.refusal(
            f"its task is CAUSAL_LM unless another is given, and {plan.graph.architecture} has none"
        )
    alpha = plan.whole_alpha()
    form = first_exact(plan, _handed_over(plan), otherwise="it takes names or one expression, without layers")
    target = form.target_modules
    fields: dict[str, Any] = {
        "use_peft": True,
        "lora_r": form.rank,
        "lora_alpha": alpha,
        "lora_dropout": form.dropout,
        "lora_target_modules": [target] if isinstance(target, str) else list(target or ()),
        "lora_task_type": plan.task,
    }
    if form.target_parameters:
        fields["lora_target_parameters"] = list(form.target_parameters)
    if form.modules_to_save:
        fields["lora_modules_to_save"] = list(form.modules_to_save)
    fields.update({name: True for name in ("use_rslora", "use_dora") if getattr(form, name)})
    return yaml_text(plan.header(), fields)


def _handed_over(plan: Plan) -> Iterator[LoraSettings]:
    """Yield forms as they are after TRL has made a text of a list with one element."""
    for form in plan.forms(expressions=True):
        target = form.target_modules
        if isinstance(target, tuple) and len(target) == 1:
            yield replace(form, target_modules=as_expression(target))
        else:
            yield form
