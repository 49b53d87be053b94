"""What a budget may cost: a count of parameters or the size of the adapter's file, read from text exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from lora_probe.errors import BadQuantity

__all__ = ["BYTES", "PARAMETERS", "Limit", "read_bytes", "read_count"]

_NUMBER = re.compile(r"(?P<number>\d[\d_]*(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)
_COUNTS = {
    "": 1,
    **{unit: 1000 ** (power + 1) for power, unit in enumerate("KMBT")},
    **{f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGT")},
}
_BYTES = {
    "B": 1,
    "kB": 1000,
    **{f"{unit}B": 1000 ** (power + 2) for power, unit in enumerate("MGT")},
    **{f"{unit}iB": 1024 ** (power + 1) for power, unit in enumerate("KMGT")},
}
_LONGEST = 32
"""Characters of a quantity that are read; more digits than this count nothing that exists."""


PARAMETERS = "parameters"
"""Unit of a limit on the elements that are trained."""
BYTES = "bytes"
"""Unit of a limit on the size of the adapter's file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The most that a target set may cost."""

    unit: str
    """`PARAMETERS` or `BYTES`."""
    value: int
    equal_to: str | None = None
    """The set and rank whose parameters the limit is, as it was asked for."""


def read_count(value: int | str, *, option: str) -> int:
    """Return the number of parameters that `value` says: 18000000, ``18_000_000``, ``18M`` or ``18Mi``.

    K, M, B and T are powers of 1000; Ki, Mi, Gi and Ti powers of 1024.

    Raises:
        BadQuantity: it is no such number, not whole, or less than one; the message names `option`.

    """
    return _read(value, _COUNTS, option=option, what="a number of parameters", example="18M or 18Mi")


def read_bytes(value: int | str, *, option: str) -> int:
    """Return the bytes that `value` says: ``50MB`` is 50 * 1000**2, ``50MiB`` is 50 * 1024**2.

    Raises:
        BadQuantity: a text has no unit or an unknown one, or the number is none, not whole or less than one.

    """
    return _read(value, _BYTES, option=option, what="a size", example="50MB (1000s) or 48MiB (1024s)")


def _read(given: int | str, units: dict[str, int], *, option: str, what: str, example: str) -> int:
    text = str(given)
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    found = _NUMBER.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise BadQuantity(option=option, text=text, problem=f"is not {what}", example=example)
    unit = found["unit"]
    if unit not in units:
        known = ", ".join(filter(None, units))
        problem = (
            f"has the unknown unit {unit!r} (known: {known})" if unit else f"has no unit (known: {known})"
        )
        raise BadQuantity(option=option, text=text, problem=problem, example=example)
    value = Fraction(found["number"].replace("_", "")) * units[unit]
    if value.denominator != 1 or value < 1:
        problem = "is less than one" if value < 1 else "is not a whole number"
        raise BadQuantity(option=option, text=text, problem=problem, example=example)
    return int(value)
