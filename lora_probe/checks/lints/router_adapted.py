"""A router among the adapted layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.checks.case import Case
    from lora_probe.peft_rules import Adapter


def _examine(case: Case) -> Iterator[Hit]:
    routers = [adapter for adapter in case.adapters if adapter.site and adapter.site.block == "router"]
    if not routers:
        return
    names = dict.fromkeys(adapter.key.rpartition(".")[2] for adapter in routers if not adapter.parameter)
    listed = [name for name in case.names if name.rpartition(".")[2] in {*names, "gate", "router"}]
    yield Hit(
        message=f"{len(routers)} {'routers get' if len(routers) > 1 else 'router gets'} an adapter: the "
        "choice or the weight of experts will change in training, and most serving engines refuse or drop it",
        paths=tuple(adapter.key for adapter in routers),
        fix=f"leave out {', '.join(map(repr, listed))}" if listed else _without(routers),
    )


def _without(routers: Sequence[Adapter]) -> str:
    ends = dict.fromkeys(".".join(adapter.key.removesuffix(".weight").split(".")[-2:]) for adapter in routers)
    if any(adapter.parameter for adapter in routers):  # to which exclude_modules does not apply
        return f"name the layers instead of matching them all; the router is {quoted(ends)}"
    return f"add exclude_modules=[{quoted(ends)}]"


RULE = Rule(
    name="router-adapted",
    severity=Severity.WARNING,
    happens="The layer that chooses the experts gets an adapter, most often because its name, gate, was "
    "caught along with others.",
    why="all-linear and the name gate include the router. Training it moves tokens between experts, which "
    "unbalances them, and most servers cannot load an adapter for it.",
    fix="Leave the router out unless it is what you want to train.",
    sources=("unslothai/unsloth#4476", "foundation-model-stack/fms-hf-tuning#545"),
    examine=_examine,
)
