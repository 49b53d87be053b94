"""Records as a pandas DataFrame."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lora_probe.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["frame_of", "frame_of_records"]


def frame_of(rows: Iterable[Sequence[Any] | Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return one line a row, in the order of `columns`.

    Half of a surrogate pair, which a broken config may name a layer with, is written as its escape: pandas
    keeps text as UTF-8, which has no word for it.
    """
    import pandas as pd

    cells = [
        [_cell(row.get(name)) for name in columns] if hasattr(row, "get") else [_cell(each) for each in row]
        for row in rows
    ]
    return pd.DataFrame(cells, columns=list(columns))


def frame_of_records(record: type[Any], values: Iterable[Any]) -> pd.DataFrame:
    """Return one line for each of `values`, with the fields of `record`, their class, as JSON types.

    A number that is infinite or none stays a number: a column of them has one type.
    """
    columns = [item.name for item in fields(record)]
    rows = ((getattr(value, name) for name in columns) for value in values)
    return frame_of(
        [[cell if isinstance(cell, float) else encoded(cell) for cell in row] for row in rows], columns
    )


def _cell(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
