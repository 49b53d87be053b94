"""An adapter whose tensors are not those that its config leads to on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.audit import module_of
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    audit = case.audit
    if audit is None:
        return
    if audit.refusal is not None:
        yield Hit(
            message=f"the adapter's own config does not fit the model: {audit.refusal.reason}",
            paths=audit.refusal.where,
            fix="check that this is the model that the adapter was trained on",
        )
    if audit.missing:
        yield Hit(
            message=f"the file lacks {_count(audit.missing)} that its config calls for: these adapters would "
            "start from nothing",
            paths=audit.missing,
            fix=f"nothing is stored for {_modules(audit.missing)}: train them, or drop them from the config",
        )
    if audit.extra:
        yield Hit(
            message=f"the file holds {_count(audit.extra)} that the model has no place for: they are ignored "
            "on loading",
            paths=audit.extra,
            fix=f"check base model and target_modules: nothing here is called {_modules(audit.extra)}",
        )


def _count(names: tuple[str, ...]) -> str:
    return f"{len(names):,} tensor{'s' if len(names) > 1 else ''}"


def _modules(names: tuple[str, ...]) -> str:
    leaves = list(dict.fromkeys(module_of(name).rpartition(".")[2] for name in names))
    return ", ".join(leaves[:6]) + (", …" if len(leaves) > 6 else "")  # noqa: PLR2004 - a sentence, not a list


RULE = Rule(
    name="adapter-tensors",
    severity=Severity.ERROR,
    happens="An adapter loads with warnings at most, but some of its tensors find no place, or some places "
    "stay empty.",
    why="PEFT loads what fits and leaves the rest. A different base model, renamed modules, or a list of "
    "targets that meant other layers when it was trained are the usual causes.",
    fix="Load it on the model that it was trained on, or correct names in the config or the file.",
    sources=("vllm-project/vllm#34186", "huggingface/transformers#42491", "unslothai/unsloth#11014"),
    examine=_examine,
)
