"""What a `LoraConfig` says besides targets and rank, as keyword arguments of a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from lora_probe.errors import UnknownChoice
from lora_probe.peft_rules import LoraSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.budgeting.choice import Choice

__all__ = ["LoraOptions", "settings_for", "spelled"]


class LoraOptions(TypedDict, total=False):
    """The fields of :class:`~lora_probe.peft_rules.LoraSettings` that hold for every set of a budget."""

    use_dora: bool
    use_rslora: bool
    bias: str
    lora_bias: bool
    modules_to_save: tuple[str, ...]
    trainable_token_indices: tuple[int, ...] | Mapping[str, tuple[int, ...]]
    ensure_weight_tying: bool
    rank_pattern: Mapping[str, int]
    task_type: str


def settings_for(choice: Choice, options: Mapping[str, Any]) -> LoraSettings:
    """Return the settings of one set; its rank is filled in by whoever asks for the cost.

    Raises:
        UnknownChoice: an option does not exist.
        PeftRefusal: PEFT takes no such combination, whatever the model.

    """
    for name in options:
        if name not in LoraOptions.__annotations__:
            raise UnknownChoice(option="an option", value=name, known=tuple(LoraOptions.__annotations__))
    return LoraSettings(
        target_modules=choice.target_modules, target_parameters=choice.target_parameters, **options
    )


def spelled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` as the arguments of `LoraConfig`: JSON types, defaults left out."""
    arguments = LoraSettings(**options).to_lora_config()
    return {name: value for name, value in arguments.items() if name not in {"r", "lora_alpha"}}
