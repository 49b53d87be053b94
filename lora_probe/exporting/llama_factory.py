"""LLaMA-Factory: the LoRA part of its YAML.

Source: `hparams/finetuning_args.py`, `model/adapter.py` and `model/model_utils/visual.py` of LLaMA-Factory
0.9.5. `lora_target` is a list with commas that goes to PEFT, except on the multimodal models that it knows:
there, every module whose path contains an entry anywhere is taken, without those of the towers that a
`freeze_…` switch names. Both readings are followed over the whole model before anything is written. There
are no expressions, layers or parameters; `bias` is always "none", the task CAUSAL_LM and alpha a whole
number.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from lora_probe.exporting.composite_models import COMPOSITE_MODELS
from lora_probe.exporting.documents import yaml_text
from lora_probe.exporting.through_peft import fault, first_exact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.exporting.composite_models import Towers
    from lora_probe.exporting.plan import Plan

__all__ = ["write"]

_WORDS = "it takes a list of names without layers, expressions or parameters"
_FREEZE = ("freeze_vision_tower", "freeze_multi_modal_projector", "freeze_language_model")
_USUAL = (True, True, False)
"""What LLaMA-Factory freezes unless it is told otherwise."""


def write(plan: Plan) -> str:
    """Return the fields to put into a training configuration.

    Raises:
        NotExportable: there is no field for an option, or no list and no switches that mean these targets.

    """
    plan.allow_only("use_dora", "use_rslora", "modules_to_save", "task_type")
    plan.allow_tasks("CAUSAL_LM")
    fields: dict[str, Any] = {
        "finetuning_type": "lora",
        "lora_rank": plan.settings.rank,
        "lora_alpha": plan.whole_alpha(),
        "lora_dropout": plan.settings.dropout,
    }
    towers = COMPOSITE_MODELS.get(plan.graph.model_type)
    if towers is None:
        lists = (form for form in plan.forms() if not form.target_parameters)
        form = first_exact(plan, lists, otherwise=_WORDS)
        fields["lora_target"] = ",".join(form.target_modules or ())
    else:
        names, frozen = _list_and_switches(plan, towers)
        fields["lora_target"] = ",".join(names)
        fields.update(zip(_FREEZE, frozen, strict=True))
    if plan.settings.modules_to_save:
        fields["additional_target"] = ",".join(plan.settings.modules_to_save)
    fields.update({name: True for name in ("use_rslora", "use_dora") if getattr(plan.settings, name)})
    return yaml_text(plan.header(), fields)


def _list_and_switches(plan: Plan, towers: Towers) -> tuple[Sequence[str], tuple[bool, ...]]:
    """Return entries and switches that together mean the wanted modules, the usual switches if possible."""
    reason = ""
    switches = sorted(product((True, False), repeat=len(_FREEZE)), key=_distance)
    for names in sorted(_lists(plan), key=lambda each: len(",".join(each))):
        for frozen in switches:
            paths = towers.matched(names, plan.inventory.paths, frozen)
            found = fault(plan, replace(plan.settings, target_modules=paths, target_parameters=()))
            if found is None:
                return names, frozen
            reason = reason or found
    raise plan.refusal(f"{_WORDS}, and takes every path that contains one{f'; {reason}' if reason else ''}")


def _distance(frozen: tuple[bool, ...]) -> int:
    return sum(each != usual for each, usual in zip(frozen, _USUAL, strict=True))


def _lists(plan: Plan) -> Iterator[Sequence[str]]:
    """Yield lists that may mean the wanted modules: the names that PEFT would get, and last segments.

    With a dot before it, the name of layer 3 is no part of that of layer 13.
    """
    if plan.settings.target_parameters:
        return
    for form in plan.forms():
        if not form.target_parameters:
            names = form.target_modules or ()
            yield names
            yield tuple(f".{name}" for name in names)
    yield tuple(dict.fromkeys(site.path.rpartition(".")[2] for site in plan.sites))
