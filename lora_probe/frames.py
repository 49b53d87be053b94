"""Records as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["frame_of"]


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


def _cell(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
