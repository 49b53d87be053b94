"""What PEFT itself does: the real `get_peft_model` on the meta device, without weights.

Imports torch and peft, and only when it is asked to run.
"""

from __future__ import annotations

import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_probe.errors import BadTargets
from lora_probe.peft_rules.experts import renamed_to
from lora_probe.peft_rules.matching import compiled
from lora_probe.peft_rules.tables import RENAMED_EXPERTS, renamed_experts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.peft_rules import LoraSettings

__all__ = ["DryRun", "Requested", "dry_run"]

_PEFT = "peft"
"""The folder of the package whose warnings are passed on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """One thing that was asked for, and what PEFT adapted for it."""

    text: str
    """An entry of `target_modules` or `target_parameters`, or the whole expression."""
    matched: tuple[str, ...]
    """Full names of what PEFT says it targeted for it; empty where it dropped the request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What PEFT did on the meta device."""

    requested: tuple[Requested, ...]
    unrequested: tuple[str, ...]
    """What PEFT targeted although no request names it: what it widened an expression to, and tied weights."""
    trainable_parameters: int
    """Elements that require a gradient, each storage once."""
    refusal: str | None
    """The first line of what PEFT raised."""
    warnings: tuple[str, ...]
    version: str
    """Version of PEFT."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """The requests for which PEFT adapted nothing."""
        return tuple(each.text for each in self.requested if not each.matched)

    def to_dict(self) -> dict[str, Any]:
        """Return the dry run as JSON types."""
        return {
            "requested": [{"text": each.text, "matched": list(each.matched)} for each in self.requested],
            "dropped": list(self.dropped),
            "unrequested": list(self.unrequested),
            "trainable_parameters": self.trainable_parameters,
            "refusal": self.refusal,
            "warnings": list(self.warnings),
            "peft": self.version,
        }


def dry_run(model: Any, settings: LoraSettings) -> DryRun:
    """Inject into `model`, an ``nn.Module`` that is used up by it, with PEFT itself.

    Nothing is computed: build the model on the meta device first (`lora_probe.source.build.build`).

    Raises:
        BadTargets: `model` is no module.

    """
    import peft
    import torch

    if not isinstance(model, torch.nn.Module):
        raise BadTargets(text=type(model).__name__, problem="is no nn.Module to inject into")
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    try:
        tuned, seen = _inject(model, settings)
    except Exception as error:  # noqa: BLE001 - PEFT raises whatever comes, and that is the answer
        return DryRun(
            requested=tuple(Requested(text=text, matched=()) for text in _texts(settings)),
            unrequested=(),
            trainable_parameters=0,
            refusal=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            warnings=(),
            version=peft.__version__,
        )
    targeted = [*tuned.base_model.targeted_module_names, *tuned.base_model.targeted_parameter_names]
    requested = tuple(
        Requested(text=text, matched=_for(text, targeted, settings, model_type)) for text in _texts(settings)
    )
    named = {name for each in requested for name in each.matched}
    elements = {
        parameter.untyped_storage()._cdata: parameter.numel()  # noqa: SLF001 - meta tensors have no address
        for parameter in tuned.parameters()
        if parameter.requires_grad
    }
    return DryRun(
        requested=requested,
        unrequested=tuple(name for name in targeted if name not in named),
        trainable_parameters=sum(elements.values()),
        refusal=None,
        warnings=tuple(dict.fromkeys(seen)),
        version=peft.__version__,
    )


def _inject(model: Any, settings: LoraSettings) -> tuple[Any, list[str]]:
    """Return the injected model, and the warnings; what PEFT prints goes nowhere."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(**settings.to_lora_config())
    with (
        warnings.catch_warnings(record=True) as caught,
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
        torch.device("meta"),
    ):
        warnings.simplefilter("always")
        tuned = get_peft_model(model, config)
    return tuned, [str(each.message) for each in caught if _PEFT in Path(each.filename).parts]


def _texts(settings: LoraSettings) -> Iterator[str]:
    target = settings.target_modules
    yield from () if target is None else (target,) if isinstance(target, str) else dict.fromkeys(target)
    yield from settings.target_parameters


def _for(text: str, targeted: list[str], settings: LoraSettings, model_type: str) -> tuple[str, ...]:
    """Return what PEFT targeted for one request, under the parameter's name where it translates that."""
    if settings.is_all_linear and text == settings.target_modules:
        return tuple(targeted)
    if text == settings.target_modules:
        matches = compiled(text, field="target_modules").fullmatch
        return tuple(name for name in targeted if matches(name))
    family = renamed_experts(model_type)
    renamed = renamed_to(text, RENAMED_EXPERTS[family]) if family else None
    end = renamed[1] if renamed else text
    return tuple(name for name in targeted if name == end or name.endswith(f".{end}"))
