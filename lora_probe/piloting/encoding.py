"""Records from JSON, driven by their type annotations: what `encoded` wrote is read back equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["NotARecord", "decoded"]

_Record = TypeVar("_Record")


class NotARecord(ValueError):
    """A JSON value is not what a record's field holds; says where."""


def decoded(kind: type[_Record], value: Any, *, where: str = "") -> _Record:
    """Return the record of class `kind` that :func:`~lora_probe.encoding.encoded` made `value` of.

    Unknown fields and missing ones without a default are refused: another version wrote them.

    Raises:
        NotARecord: `value` is no such record.

    """
    if not isinstance(value, dict):
        raise NotARecord(f"{where or kind.__name__} is no object")
    hints = _hints(cast("Any", kind))
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise NotARecord(f"{where or kind.__name__} has an unknown field {unknown[0]!r}")
    given = {}
    for item in fields(kind):  # type: ignore[arg-type]
        place = f"{where}.{item.name}" if where else item.name
        if item.name in value:
            given[item.name] = _decoded(hints[item.name], value[item.name], place)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise NotARecord(f"{place} is missing")
    return kind(**given)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    # Records name Mapping for type checkers only.
    return get_type_hints(kind, localns={"Mapping": Mapping})


def _decoded(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as what the annotation `hint` says."""
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {UnionType, Union}:
        if value is None and NoneType in arguments:
            return None
        return _decoded(next(each for each in arguments if each is not NoneType), value, where)
    if origin in {tuple, Mapping}:
        return (_tuple if origin is tuple else _mapping)(arguments, value, where)
    if is_dataclass(hint):
        return decoded(hint, value, where=where)  # type: ignore[arg-type]
    return _member(hint, value, where) if issubclass(hint, Enum) else _plain(hint, value, where)


def _mapping(arguments: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotARecord(f"{where} is no object")
    return {name: _decoded(arguments[1], each, f"{where}.{name}") for name, each in value.items()}


def _member(hint: type[Enum], value: Any, where: str) -> Enum:
    try:
        return hint(value)
    except ValueError:
        raise NotARecord(f"{where} is {value!r}, none of {', '.join(map(str, hint))}") from None


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise NotARecord(f"{where} is no list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004 - tuple[X, ...]
        item = arguments[0]
        if item in {int, float} and all(type(each) is item for each in value):
            return tuple(value)  # the long ones: losses of every item
        return tuple(_decoded(item, each, f"{where}[{index}]") for index, each in enumerate(value))
    if len(arguments) != len(value):
        raise NotARecord(f"{where} has {len(value)} items, not {len(arguments)}")
    pairs = zip(arguments, value, strict=True)
    return tuple(_decoded(hint, each, f"{where}[{index}]") for index, (hint, each) in enumerate(pairs))


def _plain(hint: type, value: Any, where: str) -> Any:
    if hint is float:
        if value in ("inf", "-inf", "nan") or (
            isinstance(value, (int, float)) and not isinstance(value, bool)
        ):
            return float(value)
    elif type(value) is hint:
        return value
    raise NotARecord(f"{where} is {value!r}, no {hint.__name__}")
