"""Records as JSON types.

JSON has no infinity and no NaN; they are written as the strings ``"inf"``, ``"-inf"`` and ``"nan"``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

__all__ = ["encoded"]


def encoded(value: Any) -> Any:
    """Return a record (or anything that one holds) as JSON types."""
    if is_dataclass(value):
        return {item.name: encoded(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): encoded(each) for name, each in value.items()}
    return [encoded(each) for each in value] if isinstance(value, (list, tuple)) else value
