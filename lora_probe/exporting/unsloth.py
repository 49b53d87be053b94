"""Unsloth: the call of `get_peft_model` in Python.

Source: `FastLlamaModel.get_peft_model` in `unsloth/models/llama.py`, `FastBaseModel.get_peft_model` in
`unsloth/models/vision.py` and `get_peft_regex` in `unsloth_zoo/peft_utils.py` (2026.10). What it does with
a list:

- names are taken for leaf names, so that none with dots are written; a text is PEFT's expression;
- input and output embeddings are trained in full instead of adapted;
- experts join as soon as a projection of an MLP is named, unless `target_parameters` is given, if empty;
- modules like ``experts.gate_up_projs.0`` join even then;
- layers hold for parameters, too, which is not so in PEFT.

`FastLanguageModel` trains in full only embeddings, the head and norms.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_probe.exporting.documents import call_text
from lora_probe.exporting.through_peft import as_expression, first_exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.exporting.plan import Plan
    from lora_probe.peft_rules import LoraSettings

__all__ = ["write"]

_EMBEDDINGS = frozenset({"embed_tokens", "lm_head"})
_LISTED_EXPERT = re.compile(r"(.*\.)?\w*experts\.\w+\.\d+")
_PASSED_ON = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "trainable_token_indices")


def write(plan: Plan) -> str:
    """Return a call of `get_peft_model` for a model that Unsloth has loaded.

    Raises:
        NotExportable: there is no argument for an option or for these targets, or Unsloth would change them.

    """
    plan.allow_only(*_PASSED_ON, "bias", "modules_to_save", "ensure_weight_tying", "task_type")
    alone = len(plan.towers) <= 1
    plan.allow_tasks(*(("CAUSAL_LM", "SEQ_CLS") if alone else ("CAUSAL_LM",)))
    _check_sites(plan)
    if alone:
        _check_saved(plan)
    form = first_exact(plan, _readable(plan), otherwise="it takes leaf names, with layers, or one expression")
    said = form.to_lora_config()
    keywords: dict[str, Any] = {
        "r": form.rank,
        "lora_alpha": form.alpha,
        "lora_dropout": form.dropout,
        "bias": form.bias,
        "target_modules": said.get("target_modules", []),
        "target_parameters": list(form.target_parameters),
    }
    if form.layers_to_transform is not None:
        keywords["layers_to_transform"] = said["layers_to_transform"]
    if form.exclude_modules is not None:
        keywords["exclude_modules"] = said["exclude_modules"]
    if form.modules_to_save:
        keywords["modules_to_save"] = list(form.modules_to_save)
        keywords["ensure_weight_tying"] = form.ensure_weight_tying
    keywords.update({name: said[name] for name in _PASSED_ON if name in said})
    loader = "FastLanguageModel" if alone else "FastVisionModel"
    header = (*plan.header(), f"model comes from unsloth.{loader}.from_pretrained")
    return call_text(header, f"model = {loader}.get_peft_model(", ["model"], keywords)


def _readable(plan: Plan) -> Iterator[LoraSettings]:
    """Yield the forms that Unsloth hands to PEFT unchanged."""
    for form in plan.forms(layers=True, expressions=True, exclusions=True):
        if form.is_all_linear or (form.layers_to_transform is not None and form.target_parameters):
            continue
        target = form.target_modules
        if isinstance(target, tuple) and any("." in name for name in target):
            if form.layers_to_transform is None:
                yield replace(form, target_modules=as_expression(target))
        else:
            yield form


def _check_sites(plan: Plan) -> None:
    """Refuse what Unsloth trains in another way than by LoRA, or adds to."""
    if moved := [site.path for site in plan.sites if site.path.rpartition(".")[2] in _EMBEDDINGS]:
        raise plan.refusal("it trains embeddings and the head in full instead of adapting them", moved)
    wanted = {site.path for site in plan.sites}
    listed = [site.path for site in plan.graph.sites if _LISTED_EXPERT.fullmatch(site.path)]
    if listed and not wanted.issuperset(listed) and any(site.block != "attention" for site in plan.sites):
        raise plan.refusal("it adds experts that are listed as modules", listed)


def _check_saved(plan: Plan) -> None:
    for entry in plan.settings.modules_to_save:
        classes = [name for path, name in plan.inventory.classes.items() if path.endswith(entry)]
        norms = bool(classes) and all("Norm" in name for name in classes)
        if entry.rpartition(".")[2] not in _EMBEDDINGS and not norms:
            raise plan.refusal(f"it trains in full only embeddings, the head and norms, not {entry}")
