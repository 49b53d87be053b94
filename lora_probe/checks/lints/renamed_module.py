"""A name that transformers 5, or a checkpoint on its way into transformers, spells otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.renames import new_names, rewritten_pattern
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    target = case.settings.target_modules
    for name in case.names:
        if not case.matches(name) and name not in case.renamed and (new := new_names(case.graph, name)):
            yield Hit(
                message=f"{name!r} is the name of an older transformers or of the checkpoint; "
                f"the model that is built has {quoted(new)}",
                fix=f"write {quoted(new)} for {name!r}",
            )
    if isinstance(target, str) and not case.written and not case.settings.is_all_linear:
        changed = rewritten_pattern(case.graph, target)
        if changed is not None:
            yield Hit(
                message=f"the expression {target!r} uses names of an older transformers or of the checkpoint",
                fix=f"write {changed!r}",
            )


RULE = Rule(
    name="renamed-module",
    severity=Severity.ERROR,
    happens="A list that was published for an older transformers matches nothing any more, or only in part.",
    why="transformers 5 renamed modules (ViT's and SegFormer's query and value became q_proj and v_proj, "
    "GPT-NeoX's embed_out became lm_head) and keeps the old names only for loading checkpoints.",
    fix="Write the new names; the finding gives them.",
    sources=("transformers/conversion_mapping.py", "huggingface/transformers#42491"),
    examine=_examine,
)
