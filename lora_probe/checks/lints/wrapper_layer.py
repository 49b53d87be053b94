"""A name that hits a wrapper around a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.checks.unsupported import refused_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    for refused in refused_modules(case):
        if not refused.is_wrapper:
            continue
        inner = refused.inner[0].path.removeprefix(f"{refused.paths[0]}.")
        leaves = dict.fromkeys(path.rpartition(".")[2] for path in refused.paths)
        yield Hit(
            message=f"PEFT raises: {len(refused.paths)} of the modules that are named are "
            f"{refused.class_name}, which wraps a {refused.inner[0].module_class or 'layer'} called {inner}",
            paths=refused.paths,
            fix=f"to adapt them write {quoted(f'{leaf}.{inner}' for leaf in leaves)}; to leave them out "
            "exclude them",
        )


RULE = Rule(
    name="wrapper-layer",
    severity=Severity.ERROR,
    happens="PEFT raises: target module Gemma4ClippableLinear (or another wrapper) is not supported.",
    why="Some models put a class of their own around a linear layer. The usual name is the wrapper's; the "
    "linear layer inside has one segment more.",
    fix="Name the inner layer (q_proj.linear), or exclude the tower with exclude_modules.",
    sources=("huggingface/peft#3129",),
    examine=_examine,
)
