"""A name that hits a block of layers instead of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.checks.unsupported import refused_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case
    from lora_probe.graph import Site

_SHOWN = 8


def _examine(case: Case) -> Iterator[Hit]:
    for refused in refused_modules(case):
        if refused.is_wrapper or not refused.holds_modules:
            continue
        names = list(dict.fromkeys(map(_name, refused.inner)))
        more = ", …" if len(names) > _SHOWN else ""
        yield Hit(
            message=f"PEFT raises: {len(refused.paths)} of the modules that are named are "
            f"{refused.class_name}, a block with layers inside and no layer",
            paths=refused.paths,
            fix=f"name the layers inside: {quoted(names[:_SHOWN])}{more}",
        )


def _name(site: Site) -> str:
    """Return the last segment of a layer's path, with the one before where it is but a number."""
    return ".".join(site.path.split(".")[-2:]) if site.name.isdigit() else site.name


RULE = Rule(
    name="container-hit",
    severity=Severity.ERROR,
    happens="PEFT raises: target module LlamaAttention (or another block) is not supported.",
    why="A name or an expression matched a module that holds layers. LoRA wraps single layers only.",
    fix="Name the layers inside, or let the expression end with their names.",
    sources=("hiyouga/LlamaFactory#9664",),
    examine=_examine,
)
