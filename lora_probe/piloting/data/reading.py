"""Rows out of files, through the `datasets` library, each with the place where it stands.

Files are streamed: no more is read than is asked for, and nothing is written beside them. Two formats take a
detour. Lines of JSON are read as lines and parsed here, because the library's own reader makes dates of texts
that look like one and names no line when one is broken. Cells of CSV are read as text, because it takes the
words NA and null for no value.
"""

from __future__ import annotations

import glob
import json
import tempfile
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.quiet import quiet_datasets
from lora_probe.piloting.data.rows import Rows, class_names, without_media
from lora_probe.piloting.data.sources import Format
from lora_probe.piloting.errors import BadDataOption, UnreadableData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lora_probe.piloting.data.sources import DataFile

__all__ = ["TEXT_UNITS", "read_files"]

TEXT_UNITS = ("line", "paragraph", "document")
_ENCODING = "utf-8-sig"
"""UTF-8, with the mark at its beginning that some editors write, or without."""


def read_files(files: Sequence[DataFile], *, limit: int, text_unit: str) -> Rows:
    """Return the first `limit` rows of the files, in their order.

    Raises:
        UnreadableData: a file is not what its name says; names the line where the format has lines.
        BadDataOption: `text_unit` is none of `TEXT_UNITS`.

    """
    if text_unit not in TEXT_UNITS:
        raise BadDataOption(
            option="text unit", value=text_unit, problem=f"is none of {', '.join(TEXT_UNITS)}"
        )
    rows: list[Mapping[str, Any]] = []
    places: list[str] = []
    more = False
    with quiet_datasets(), tempfile.TemporaryDirectory(prefix="lora-probe-") as cache:
        reader = _Reader(cache=cache, text_unit=text_unit, most=limit + 1)
        for file in files:
            for place, row in reader.rows(file):
                if len(rows) == limit:
                    more = True
                    break
                rows.append(row)
                places.append(f"{file.path}, {place}")
    return Rows(rows=tuple(rows), places=tuple(places), more=more, class_names=reader.class_names)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    """Reads file after file; gathers the names of classes that they hold."""

    cache: str
    """A folder for what the library writes."""
    text_unit: str
    most: int
    """Rows that are of interest, of any file."""
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def rows(self, file: DataFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the rows of one file, each with its place in it."""
        if file.format is Format.JSON_LINES:
            lines = self._stream(file, "text", encoding=_ENCODING, sample_by="line")
            yield from _parsed((row["text"] for row in lines), str(file.path))
        elif file.format is Format.JSON:
            whole = self._stream(file, "text", encoding=_ENCODING, sample_by="document")
            yield from _json_rows("".join(row["text"] for row in whole), str(file.path))
        elif file.format is Format.TEXT:
            units = self._stream(file, "text", encoding=_ENCODING, sample_by=self.text_unit)
            yield from _numbered(units, self.text_unit)
        elif file.format is Format.PARQUET:
            yield from _numbered(self._stream(file, "parquet"), "row")
        else:
            yield from _numbered(self._cells(file), "row")

    def _cells(self, file: DataFile) -> list[Mapping[str, Any]]:
        """Return the rows of a table of text, each cell as the text that stands there.

        Both passes are read to their end, because pandas leaves the file open otherwise. Left to itself, it
        would take what rows hold more than the heading for their names, and move all other cells.

        Raises:
            UnreadableData: rows hold more cells than the heading.

        """
        from datasets import Features, Value
        from pandas.errors import ParserWarning

        told: dict[str, Any] = {
            "sep": "\t" if file.format is Format.TSV else ",",
            "na_filter": False,
            "encoding": _ENCODING,
            "index_col": False,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            try:
                first = list(self._stream(file, "csv", nrows=1, **told))
                if not first:
                    return []
                texts = Features({column: Value("string") for column in first[0]})
                return list(self._stream(file, "csv", nrows=self.most, features=texts, **told))
            except ParserWarning:
                problem = "its rows hold more cells than its heading: name all columns there"
                raise UnreadableData(where=str(file.path), problem=problem) from None

    def _stream(self, file: DataFile, builder: str, **options: Any) -> Iterator[Mapping[str, Any]]:
        """Yield rows as the library's `builder` reads them.

        Raises:
            UnreadableData: it cannot.

        """
        from datasets import load_dataset

        if file.path.stat().st_size == 0:
            return  # some of the builders stumble over it; the caller sees that there are no rows
        try:
            found = load_dataset(
                builder,
                data_files=[glob.escape(str(file.path))],
                split="train",
                streaming=True,
                cache_dir=self.cache,
                **options,
            )
            self.class_names.update(class_names(found.features))
            yield from without_media(found)
        except UnicodeDecodeError as error:
            problem = f"it is not UTF-8 text (byte 0x{error.object[error.start]:02x})"
            raise UnreadableData(where=str(file.path), problem=problem) from None
        except (OSError, ValueError, EOFError) as error:  # pandas' and pyarrow's errors are ValueErrors
            reason = " ".join(str(error).split()) or type(error).__name__
            refused = getattr(error, "strerror", None)  # the file system's own words
            problem = refused or f"no valid {file.format}: {reason}"
            raise UnreadableData(where=str(file.path), problem=problem) from None


def _numbered(rows: Iterable[Mapping[str, Any]], unit: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((f"{unit} {count}", row) for count, row in enumerate(rows, 1))


def _parsed(lines: Iterator[str], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", _row(_json(line, f"{path}, line {number}"), f"{path}, line {number}")


def _json_rows(text: str, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a file called .json: an array of objects, one object, or lines after all."""
    if text.lstrip().startswith("["):
        for count, row in enumerate(_json(text, path), 1):
            yield f"row {count}", _row(row, f"{path}, row {count}")
    elif (only := _only_object(text)) is not None:
        yield "row 1", only
    else:
        yield from _parsed(iter(text.split("\n")), path)


def _only_object(text: str) -> Mapping[str, Any] | None:
    """Return the object that is all there is in `text`, over however many lines."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        told = error.msg.removesuffix(" at")  # as of some of the parser's messages
        raise UnreadableData(where=where, problem=f"no valid JSON: {told} at column {error.colno}") from None
    except RecursionError:
        raise UnreadableData(where=where, problem="its JSON is nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise UnreadableData(where=where, problem=f"no valid JSON: {error}") from None


def _row(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        kinds = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}
        problem = f'a row must be an object like {{"text": …}}, not {kinds.get(type(value), "a number")}'
        raise UnreadableData(where=where, problem=problem)
    return value
