"""PEFT's `adapter_config.json`, or the fields of a `LoraConfig`, read into settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from lora_probe.errors import BadAdapter
from lora_probe.peft_rules import LoraSettings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["settings_from_config"]

HIGHEST_RANK = 1 << 20
"""No matrix of any model is as wide."""


def settings_from_config(config: Mapping[str, Any], *, where: str) -> LoraSettings:
    """Return the part of a PEFT config that decides what is adapted; `where` names it in errors.

    Fields that PEFT leaves out have its defaults; fields that bear on nothing here are passed over.

    Raises:
        BadAdapter: a field has a type or a size that PEFT never writes, or the config is of no LoRA.
        PeftRefusal: PEFT takes no such combination of settings.

    """
    kind = getattr(config.get("peft_type", "LORA"), "value", config.get("peft_type", "LORA"))
    if kind != "LORA":
        raise BadAdapter(where=where, problem=f"it is of type {kind!r}", advice="only LoRA is read here")
    given = {
        ours: read(config[theirs], f"{where}, {theirs}")
        for theirs, (ours, read) in _FIELDS.items()
        if config.get(theirs) is not None
    }
    return LoraSettings(**given)


def _rank(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= HIGHEST_RANK:
        raise BadAdapter(
            where=where, problem=f"a rank is a whole number from 1 to {HIGHEST_RANK}, got {value!r}"
        )
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise BadAdapter(where=where, problem=f"expected a number, got {value!r}")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise BadAdapter(where=where, problem=f"expected true or false, got {value!r}")
    return value


def _text(value: Any, where: str) -> str:
    value = getattr(value, "value", value)  # LoraConfig keeps an enum in task_type
    if not isinstance(value, str):
        raise BadAdapter(where=where, problem=f"expected a text, got {value!r}")
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise BadAdapter(where=where, problem=f"expected a list of names, got {value!r}")
    return tuple(_text(each, where) for each in value)


def _names_or_text(value: Any, where: str) -> tuple[str, ...] | str:
    return value if isinstance(value, str) else _names(value, where)


def _targets(value: Any, where: str) -> tuple[str, ...] | str:
    """Read a list that PEFT keeps as a set and saves in the order of the day."""
    return value if isinstance(value, str) else tuple(sorted(_names(value, where)))


def _indices(value: Any, where: str) -> tuple[int, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise BadAdapter(where=where, problem=f"expected a list of whole numbers, got {value!r}")
    found = tuple(value)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in found):
        raise BadAdapter(where=where, problem="expected a list of whole numbers")
    return found


def _index_or_indices(value: Any, where: str) -> tuple[int, ...] | int:
    return value if isinstance(value, int) and not isinstance(value, bool) else _indices(value, where)


def _tokens(value: Any, where: str) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    if isinstance(value, Mapping):
        return {_text(key, where): _indices(each, f"{where}, {key}") for key, each in value.items()}
    return _indices(value, where)


def _pattern(read: Callable[[Any, str], Any]) -> Callable[[Any, str], dict[str, Any]]:
    def read_pattern(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise BadAdapter(where=where, problem=f"expected an object, got {value!r}")
        return {_text(key, where): read(each, f"{where}, {key}") for key, each in value.items()}

    return read_pattern


_FIELDS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "r": ("rank", _rank),
    "lora_alpha": ("alpha", _number),
    "lora_dropout": ("dropout", _number),
    "target_modules": ("target_modules", _targets),
    "exclude_modules": ("exclude_modules", _targets),
    "target_parameters": ("target_parameters", _names),
    "layers_to_transform": ("layers_to_transform", _index_or_indices),
    "layers_pattern": ("layers_pattern", _names_or_text),
    "modules_to_save": ("modules_to_save", _names),
    "trainable_token_indices": ("trainable_token_indices", _tokens),
    "ensure_weight_tying": ("ensure_weight_tying", _flag),
    "rank_pattern": ("rank_pattern", _pattern(_rank)),
    "alpha_pattern": ("alpha_pattern", _pattern(_number)),
    "use_dora": ("use_dora", _flag),
    "use_rslora": ("use_rslora", _flag),
    "bias": ("bias", _text),
    "lora_bias": ("lora_bias", _flag),
    "task_type": ("task_type", _text),
}
"""PEFT's field, ours, and how its value is read."""
