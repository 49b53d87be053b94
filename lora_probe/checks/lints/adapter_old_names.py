"""An adapter under the names of an older transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    if case.audit is None or not case.audit.old:
        return
    experts = sum(".experts." in name for name in case.audit.old)
    what = "one pair for each expert" if experts else "another path before the layers"
    yield Hit(
        message=f"{len(case.audit.old):,} tensors have the names of an older transformers ({what})",
        paths=case.audit.old,
        fix="load it with PEFT, which translates such names for the types that transformers converts, and "
        "save it again",
    )


RULE = Rule(
    name="adapter-old-names",
    severity=Severity.WARNING,
    happens="Tools that take the names as they are find nothing in this model; PEFT translates them for some "
    "types.",
    why="Adapters for mixtures of experts were trained on one module for each expert, which transformers 5 "
    "fused; multimodal models moved their language model to another path.",
    fix="Load and save it again with a current PEFT, or load it under the transformers it was trained with.",
    sources=("huggingface/transformers#42491", "vllm-project/vllm#48019"),
    examine=_examine,
)
