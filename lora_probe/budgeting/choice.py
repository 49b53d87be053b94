"""Which sets a budget is made of, and what PEFT is told for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from lora_probe.budgeting.ranks import read_ranks
from lora_probe.errors import UnknownChoice
from lora_probe.peft_rules import LoraSettings
from lora_probe.targets import TargetSpec, emit, parse_targets, resolve

if TYPE_CHECKING:
    from lora_probe.graph import Site
    from lora_probe.peft_rules import Inventory

__all__ = ["Choice", "LoraOptions", "choose", "lora_arguments"]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One target set: the weights that it means, and what PEFT is told."""

    sites: tuple[Site, ...]
    settings: LoraSettings
    """Its rank is left open."""


def choose(inventory: Inventory, targets: TargetSpec | str, options: Mapping[str, Any]) -> Choice:
    """Return the set that `targets` describes, with `options` for all that targets do not say.

    What PEFT reads itself, such as a list of names, is passed on as it stands; anything else is resolved and
    emitted.

    Raises:
        TargetSyntaxError: `targets` is a text that is no target specification.
        UnmatchedTarget: a part of it matches nothing.
        NotExpressible: PEFT has no words for the weights that it selects.
        PeftRefusal: PEFT would not take the set, or the options.
        UnknownChoice: there is no such option.

    """
    settings = _settings(options)
    spec = targets if isinstance(targets, TargetSpec) else parse_targets(targets)
    sites = resolve(inventory, spec)
    if spec.verbatim:
        settings = replace(settings, target_modules=spec.verbatim["target_modules"])
    else:
        settings = emit(inventory, sites, settings=settings)
    return Choice(sites=sites, settings=settings)


def lora_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` as arguments of `LoraConfig`: JSON types, defaults left out."""
    arguments = _settings(options).to_lora_config()
    return {name: value for name, value in arguments.items() if name not in {"r", "lora_alpha"}}


def _settings(options: Mapping[str, Any]) -> LoraSettings:
    known = LoraOptions.__annotations__
    for name in options:
        if name not in known:
            raise UnknownChoice(option="an option", value=name, known=tuple(known))
    for rank in (options.get("rank_pattern") or {}).values():
        read_ranks(rank, where="rank_pattern")
    return LoraSettings(**{name: _frozen(value) for name, value in options.items()})


def _frozen(value: Any) -> Any:
    """Return `value` with tuples for lists, as settings hold them."""
    if isinstance(value, Mapping):
        return {key: _frozen(each) for key, each in value.items()}
    return tuple(value) if isinstance(value, (list, set, frozenset, range)) else value
