"""What makes a pilot again: the command line, or the call in Python."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Arm, Protocol, Training
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.records import Plan

__all__ = ["pilot_command"]


def pilot_command(plan: Plan) -> str:
    """Return the command line that asked for the plan, quoted for a shell; where Python did, its call."""
    if plan.command:
        return shlex.join(map(printable, plan.command))
    arguments = ", ".join([repr(plan.model.model), repr(plan.data.source), "out=…", *_arguments(plan)])
    return f"lora_probe.pilot({arguments})"


def _arguments(plan: Plan) -> Iterator[str]:
    """Yield what the plan does not leave at its default."""
    sets = [each for each in plan.candidates if each.arm is Arm.LORA]
    yield f"candidates={[each.name for each in sets]!r}"
    for each in sets[:1]:
        if each.left_over is None:
            yield f"rank={each.rank}"
        else:
            yield f"max_parameters={each.trainable_parameters + each.left_over}"
        yield f"alpha_over_rank={each.alpha / each.rank:g}"
    if any(each.arm is Arm.FULL for each in plan.candidates):
        yield "full=True"
    for given, usual in ((plan.training, Training()), (plan.protocol, Protocol())):
        for item in fields(given):
            value = getattr(given, item.name)
            if value != getattr(usual, item.name):
                yield f"{item.name}={value!r}"
    if plan.engine != "auto":
        yield f"engine={plan.engine!r}"
