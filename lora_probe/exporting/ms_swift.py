"""ms-swift: arguments of ``swift sft``.

Source: `swift/arguments/tuner_args.py` and `swift/pipelines/train/tuner.py` of ms-swift 4.6. Names go to
PEFT as they are, `--target_regex` instead of them as its regular expression; without either, everything
linear of the language model is meant. The switches `--freeze_vit` and `--freeze_aligner`, true by default,
bear only on that shorthand, which is never written here. The task SEQ_CLS trains a module called v_head in
full, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.exporting.documents import arguments_text
from lora_probe.exporting.through_peft import first_exact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.exporting.plan import Plan
    from lora_probe.peft_rules import LoraSettings

__all__ = ["write"]

_NOTHING = "(?!)"
"""An expression that matches no name, for sets of parameters only: without any, all-linear is meant."""
_OWN_WORDS = frozenset({"all-linear", "all-embedding", "all-norm"})


def write(plan: Plan) -> str:
    """Return the arguments that concern LoRA.

    Raises:
        NotExportable: there is no argument for an option or for these targets.

    """
    plan.allow_only("use_dora", "use_rslora", "bias", "modules_to_save", "task_type")
    plan.allow_tasks("CAUSAL_LM", "SEQ_CLS")
    if plan.settings.bias == "lora_only":
        raise plan.refusal("its biases are trained all or not at all")
    form = first_exact(plan, _handed_over(plan), otherwise="it takes names or one expression, without layers")
    options: dict[str, Sequence[str] | str] = {
        "tuner_type": "lora",
        "lora_rank": str(form.rank),
        "lora_alpha": str(form.alpha),
        "lora_dropout": str(form.dropout),
    }
    if isinstance(form.target_modules, str):
        options["target_regex"] = form.target_modules
    else:
        options["target_modules"] = form.target_modules or ()
    if form.target_parameters:
        options["target_parameters"] = form.target_parameters
    if plan.settings.modules_to_save:
        options["modules_to_save"] = plan.settings.modules_to_save
    if form.bias != "none":
        options["lora_bias"] = form.bias
    if form.task_type:
        options["task_type"] = form.task_type.lower()
    options.update({name: "true" for name in ("use_rslora", "use_dora") if getattr(form, name)})
    return arguments_text(plan.header(), options)


def _handed_over(plan: Plan) -> Iterator[LoraSettings]:
    """Yield forms as ms-swift hands them to PEFT; words that it reads in its own way are left out."""
    for form in plan.forms(expressions=True):
        target = form.target_modules or _NOTHING
        words = {target} if isinstance(target, str) else set(target)
        if _OWN_WORDS.intersection(words):
            continue
        saved = form.modules_to_save + (("v_head",) if form.task_type == "SEQ_CLS" else ())
        yield replace(form, target_modules=target, modules_to_save=saved)
