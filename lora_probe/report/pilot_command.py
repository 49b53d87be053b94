"""What makes a pilot again: the command line, or the call in Python."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.base.hardware import QUANTIZATIONS
from lora_probe.piloting.data.examples import DataOptions
from lora_probe.piloting.records import Arm, Protocol, Task, Training
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.piloting.records import Plan

__all__ = ["pilot_command"]

_READ = ("train_on", "max_examples", "text_unit")
_LORA = ("bias", "lora_bias", "trainable_token_indices", "ensure_weight_tying")
"""What a `LoraConfig` says of all sets alike."""


def pilot_command(plan: Plan) -> str:
    """Return the command line that asked for the plan, quoted for a shell; where Python did, its call."""
    if plan.command:
        return shlex.join(map(printable, plan.command))
    data = list(plan.data.sources) if len(plan.data.sources) > 1 else plan.data.source
    arguments = ", ".join([repr(plan.model.model), repr(data), "out=…", *_arguments(plan)])
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
    for name, value in _described(plan).items():
        yield f"{name}={value!r}"


def _described(plan: Plan) -> dict[str, Any]:
    """Return what the plan does not leave at its default of model, data and adapters, by option."""
    classifies = plan.data.task in {Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION}
    read, usual = plan.data.options, DataOptions()
    asked = plan.model.quantization if plan.model.quantization in QUANTIZATIONS else None
    given = {
        "task": (str(plan.data.task), str(Task.CAUSAL_LM)),
        "revision": (plan.model.revision, None),
        "dtype": (plan.model.dtype, "float32"),
        "quantization": (asked, None),  # a checkpoint may be quantized by itself
        "device": (plan.device, "cpu"),
        "columns": ({said: name for said, name in read.get("columns", {}).items() if said != name}, {}),
        **{name: (read.get(name, getattr(usual, name)), getattr(usual, name)) for name in _READ},
        **{f"data_{name}": (read.get(name), None) for name in ("name", "split", "revision")},
        "retention": (plan.data.retention, ""),
    }
    lora = next((each.lora for each in plan.candidates if each.arm is Arm.LORA), {})
    # The new head of a classification is saved without being asked for.
    names = _LORA if classifies else (*_LORA, "modules_to_save")
    given["lora"] = ({name: lora[name] for name in names if name in lora}, {})
    return {name: value for name, (value, default) in given.items() if value != default}
