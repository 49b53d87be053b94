"""A name that hits a module of a class that PEFT has no LoRA layer for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import parameter_names, quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.checks.unsupported import refused_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    for refused in refused_modules(case):
        if refused.holds_modules:
            continue
        names = parameter_names(refused.inner)
        leaf = refused.paths[0].rpartition(".")[2]
        yield Hit(
            message=f"PEFT raises: {len(refused.paths)} of the modules that are named are "
            f"{refused.class_name}, for which there is no LoRA layer",
            paths=refused.paths,
            fix=f"take {leaf!r} out of the names"
            + (f"; to adapt its weight, name it in target_parameters=[{quoted(names)}]" if names else ""),
        )


RULE = Rule(
    name="unsupported-module",
    severity=Severity.ERROR,
    happens="PEFT raises: the target module is not supported.",
    why="LoRA layers exist for linear layers, embeddings, convolutions and nn.MultiheadAttention. Routers "
    "and norms that keep bare parameters are none of these.",
    fix="Leave the name out; a bare 2-D or 3-D parameter can be named in target_parameters.",
    sources=("peft/tuners/lora/model.py, LoraModel._create_new_module", "unslothai/unsloth#4476"),
    examine=_examine,
)
