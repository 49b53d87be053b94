"""A head or classifier among the adapted layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.checks.case import Case
    from lora_probe.peft_rules import Adapter

_NEW_HEAD = re.compile(r"Classification|QuestionAnswering|MultipleChoice")
"""Parts of the names of classes whose head no pretrained checkpoint holds."""


def _examine(case: Case) -> Iterator[Hit]:
    heads = [
        adapter
        for adapter in case.adapters
        if adapter.site and (adapter.site.block == "head" or adapter.module == case.graph.output_embedding)
    ]
    if not heads:
        return
    named = case.request.is_exact or all(_is_named(case, adapter.module) for adapter in heads)
    new = _NEW_HEAD.search(case.graph.architecture) is not None
    size = sum(adapter.site.lora_parameters(adapter.rank) for adapter in heads if adapter.site)
    names = ", ".join(dict.fromkeys(adapter.module.rpartition(".")[2] for adapter in heads))
    yield Hit(
        severity=Severity.INFO if named and not new else Severity.WARNING,
        message=f"the head gets a low-rank adapter ({names}, {size:,} parameters)"
        + ("; a new head starts at random and needs to be trained in full" if new else ""),
        paths=tuple(adapter.module for adapter in heads),
        fix="put it into modules_to_save instead" if new else _without(case, heads),
    )


def _is_named(case: Case, path: str) -> bool:
    """Tell whether a person wrote the layer's own name, so that it is no accident."""
    target = case.settings.target_modules
    if isinstance(target, str):
        return path.rpartition(".")[2] in target
    return any(path == entry or path.endswith(f".{entry}") for entry in case.names)


def _without(case: Case, heads: Sequence[Adapter]) -> str:
    if all(adapter.module == case.graph.output_embedding for adapter in heads):
        return "leave it out unless new tokens are trained; not every server loads it"
    ends = dict.fromkeys(".".join(adapter.module.split(".")[-2:]) for adapter in heads)
    return f"add exclude_modules=[{quoted(ends)}] unless the head is what should change"


RULE = Rule(
    name="head-adapted",
    severity=Severity.WARNING,
    happens="The output embedding or a task head is adapted at low rank. A classification head that starts "
    "at random hardly learns that way.",
    why="PEFT leaves the output embedding out of all-linear, and score or classifier only when the task type "
    "is SEQ_CLS; any other head is one more linear layer to it.",
    fix="Set the task type, or put a new head into modules_to_save; leave lm_head out.",
    sources=("huggingface/peft#2027", "ggml-org/llama.cpp#11554", "ggml-org/llama.cpp#9065"),
    examine=_examine,
)
