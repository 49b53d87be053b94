"""What a person would hand to PEFT, in the forms in which people write it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any

from lora_probe.checks.peft_config import HIGHEST_RANK, settings_from_config
from lora_probe.errors import BadRank, BadTargets, TargetSyntaxError
from lora_probe.peft_rules import LoraSettings
from lora_probe.targets import TargetSpec, emit, parse_targets, resolve
from lora_probe.targets.spec import Role

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph

__all__ = ["Request", "check_rank", "read_request"]

_REGULAR = frozenset("\\*[](){}?^$|")
"""Characters that, of all forms of a target set, only a regular expression holds."""
_OPTIONS = {item.name for item in fields(LoraSettings)} - {"rank", "target_modules"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One target set as it was written, and as PEFT gets it."""

    text: str
    settings: LoraSettings
    is_exact: bool = False
    """Whether it names roles, which select what they say and nothing by accident of a name."""
    chooses_tower: bool = False
    """Whether it names towers, so that more than one is no accident."""


def read_request(graph: ModuleGraph, targets: object, *, rank: int, options: Mapping[str, Any]) -> Request:
    """Return what `targets` asks of PEFT.

    `targets` is a text, a sequence of names, a mapping or object with the fields of PEFT's `LoraConfig`, or a
    `LoraSettings`. A text is a list of names with commas, a JSON list, or a target set in this package's own
    grammar; what is none of these and has the characters of a regular expression is one. `options` are
    further fields of `LoraSettings`.

    Raises:
        BadTargets, TargetSyntaxError, UnmatchedTarget: it is none of these, or an option does not exist or
            is no number where it should be.
        BadRank: no adapter can have this rank.
        PeftRefusal: PEFT takes no such combination of settings, whatever the model.

    """
    if unknown := sorted(set(options) - _OPTIONS):
        near = get_close_matches(unknown[0], sorted(_OPTIONS), n=3)
        raise BadTargets(text=unknown[0], problem="is no option of a check", near=near)
    if isinstance(targets, LoraSettings):
        return Request(text=_shown(targets.target_modules), settings=targets)
    config = targets.to_dict() if hasattr(targets, "to_dict") else targets
    if isinstance(config, Mapping):
        settings = settings_from_config(config, where="targets")
        return Request(text=_shown(settings.target_modules), settings=settings)
    given: dict[str, Any] = {"rank": check_rank(rank), "alpha": rank, **options}
    for name in ("alpha", "dropout"):
        _check_number(given.get(name, 0), name=name)
    if isinstance(targets, str):
        return _from_text(targets.strip(), graph, given)
    names = _names(targets)
    return Request(text=",".join(names), settings=LoraSettings(**given, target_modules=names))


def check_rank(rank: object, *, where: str = "rank") -> int:
    """Return `rank` if an adapter can have it.

    Raises:
        BadRank: it is no whole number, less than 1, or beyond any matrix.

    """
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise BadRank(rank=rank, problem="must be a whole number", where=where)
    if rank < 1:
        raise BadRank(rank=rank, problem="must be >= 1", where=where)
    if rank > HIGHEST_RANK:
        raise BadRank(rank=rank, problem=f"must be <= {HIGHEST_RANK}, the width of no matrix", where=where)
    return rank


def _check_number(value: object, *, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise BadTargets(text=name, problem=f"must be a finite number, got {value!r}")


def _from_text(text: str, graph: ModuleGraph, given: Mapping[str, Any]) -> Request:
    if text.startswith("["):
        return Request(text=text, settings=LoraSettings(**given, target_modules=_names(_json(text))))
    try:
        spec = parse_targets(text)
    except TargetSyntaxError:
        if _REGULAR.intersection(text) and "re:" not in text:
            return Request(text=text, settings=LoraSettings(**given, target_modules=text))
        raise
    towers = _chooses_tower(spec)
    if spec.verbatim is not None:
        settings = LoraSettings(**{**given, **spec.verbatim})
    else:
        settings = emit(graph, resolve(graph, spec), settings=LoraSettings(**given))
        settings = replace(settings, exclude_modules=given.get("exclude_modules"))
    return Request(text=text, settings=settings, is_exact=spec.verbatim is None, chooses_tower=towers)


def _chooses_tower(spec: TargetSpec) -> bool:
    for term in spec.terms:
        selector = term.selector
        if isinstance(selector, TargetSpec) and _chooses_tower(selector):
            return True
        if isinstance(selector, Role) and selector.tower is not None:
            return True
    return False


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadTargets(text=text, problem=f"begins like a JSON list and is none ({error})") from error


def _names(values: object) -> tuple[str, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise BadTargets(text=repr(values), problem="is neither a text nor a list of names")
    names = tuple(values)
    if not names:
        raise BadTargets(text="[]", problem="is empty", advice="name at least one module, or all-linear")
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise BadTargets(text=repr(wrong[0]), problem="is no name")
    return names


def _shown(target: tuple[str, ...] | str | None) -> str:
    if target is None:
        return "PEFT's default"
    return target if isinstance(target, str) else ",".join(target)
