"""What a user names as data, told apart: files of known formats, folders of such, or a dataset id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import DataNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["DataFile", "Format", "find_sources"]


class Format(str, Enum):
    """How a file of data is read."""

    JSON_LINES = "JSON Lines"
    JSON = "JSON"
    CSV = "CSV"
    TSV = "TSV"
    PARQUET = "Parquet"
    TEXT = "plain text"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One file of data, and its format by its name."""

    path: Path
    format: Format


_FORMATS = {
    ".jsonl": Format.JSON_LINES,
    ".ndjson": Format.JSON_LINES,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".parquet": Format.PARQUET,
    ".txt": Format.TEXT,
    ".text": Format.TEXT,
    ".md": Format.TEXT,
    ".rst": Format.TEXT,
}
_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst"})
_DATASET_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)
_KNOWN = "files end in .jsonl, .json, .csv, .tsv, .parquet, .txt, .md or .rst (or one of these and .gz)"


def find_sources(source: str | Sequence[str]) -> tuple[DataFile, ...] | str:
    """Return the files that `source` names, in a fixed order, or the one dataset id that it is.

    Of a folder, files of rows are taken, and files of plain text only where there are none of rows: a folder
    of data often holds a README.

    Raises:
        DataNotFound: a name is nothing of the kind, or a folder holds no file of a known format.

    """
    names = [source] if isinstance(source, str) else list(source)
    if not names:
        raise DataNotFound(
            source="data", problem="nothing was named", advice="give files, a folder or a dataset id"
        )
    files: list[DataFile] = []
    for name in names:
        path = Path(name)
        if name and _is(path, Path.is_dir):
            files += _inside(path)
        elif _is(path, Path.is_file):
            files.append(DataFile(path=path, format=_format(path)))
        elif _looks_like_dataset(name):
            if len(names) > 1:
                problem = "no such file or folder, and a dataset id must be the only source"
                raise DataNotFound(source=name, problem=problem)
            return name
        else:
            raise DataNotFound(source=name, problem="no such file or folder")
    return tuple(files)


def _is(path: Path, question: Callable[[Path], bool]) -> bool:
    """Ask the file system about a name that may be too long or hold a NUL."""
    try:
        return question(path)
    except (OSError, ValueError):
        return False


def _looks_like_dataset(name: str) -> bool:
    return _DATASET_ID.fullmatch(name) is not None and _suffix(Path(name)) not in _FORMATS


def _suffix(path: Path) -> str:
    """Return the suffix that says the format, below one that says a compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _COMPRESSED else suffix


def _format(path: Path) -> Format:
    found = _FORMATS.get(_suffix(path))
    if found is None:
        problem = (
            f"its suffix {path.suffix!r} says no format that can be read"
            if path.suffix
            else "it has no suffix"
        )
        raise DataNotFound(source=str(path), problem=problem, advice=_KNOWN)
    return found


def _inside(folder: Path) -> list[DataFile]:
    visible = (
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    files = [
        DataFile(path=path, format=_FORMATS[_suffix(path)])
        for path in visible
        if _suffix(path) in _FORMATS and path.is_file()
    ]
    rows = [file for file in files if file.format is not Format.TEXT]
    if not files:
        raise DataNotFound(source=str(folder), problem="the folder holds no data", advice=_KNOWN)
    return rows or files
