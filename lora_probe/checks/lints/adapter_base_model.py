"""An adapter that was trained on another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    if case.adapter is None or case.adapter.base_model is None:
        return
    trained_on, here = case.adapter.base_model, case.graph.model
    if _last(trained_on) != _last(here):
        yield Hit(
            message=f"the adapter's config names the base model {trained_on}, this is {here}",
            fix=f"check {trained_on}; equal shapes do not make equal weights",
        )


def _last(name: str) -> str:
    """Return the repository's or folder's own name: the same model goes by an id and by many paths."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


RULE = Rule(
    name="adapter-base-model",
    severity=Severity.WARNING,
    happens="An adapter loads without a word on a model that it was not trained on, and makes it worse.",
    why="PEFT compares shapes at most. A chat model and its base, or two versions of one size, have the same "
    "shapes.",
    fix="Load it on the model that base_model_name_or_path names.",
    sources=("peft/config.py, base_model_name_or_path",),
    examine=_examine,
)
