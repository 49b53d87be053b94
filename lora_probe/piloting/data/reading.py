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
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.quiet import quiet_datasets
from lora_probe.piloting.data.rows import Rows, class_names, without_media
from lora_probe.piloting.data.sources import Format
from lora_probe.piloting.errors import BadDataOption, UnreadableData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.piloting.data.sources import DataFile

__all__ = ["TEXT_UNITS", "read_files"]

TEXT_UNITS = ("line", "paragraph", "document")


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
    classes: dict[str, tuple[str, ...]] = {}
    more = False
    with quiet_datasets(), tempfile.TemporaryDirectory(prefix="lora-probe-") as cache:
        for file in files:
            for place, row in _read(file, text_unit, cache, classes):
                if len(rows) == limit:
                    more = True
                    break
                rows.append(row)
                places.append(f"{file.path}, {place}")
    return Rows(rows=tuple(rows), places=tuple(places), more=more, class_names=classes)


def _read(
    file: DataFile, text_unit: str, cache: str, classes: dict[str, tuple[str, ...]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of one file, each with its place in it; add to `classes` the names that it holds."""
    if file.format is Format.JSON_LINES:
        lines = _stream(file, cache, "text", encoding="utf-8-sig", sample_by="line")
        yield from _parsed((row["text"] for row in lines), str(file.path))
    elif file.format is Format.JSON:
        yield from _json_rows(file, cache)
    elif file.format is Format.TEXT:
        units = _stream(file, cache, "text", encoding="utf-8-sig", sample_by=text_unit)
        yield from ((f"{text_unit} {count}", row) for count, row in enumerate(units, 1))
    elif file.format is Format.PARQUET:
        yield from (
            (f"row {count}", row)
            for count, row in enumerate(_stream(file, cache, "parquet", classes=classes), 1)
        )
    else:
        yield from ((f"row {count}", row) for count, row in enumerate(_cells(file, cache), 1))


def _cells(file: DataFile, cache: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table of text, each cell as the text that stands there."""
    from datasets import Features, Value

    told: dict[str, Any] = {
        "sep": "\t" if file.format is Format.TSV else ",",
        "na_filter": False,
        "encoding": "utf-8-sig",
    }
    first = next(_stream(file, cache, "csv", **told), None)
    if first is not None:
        texts = Features({column: Value("string") for column in first})
        yield from _stream(file, cache, "csv", features=texts, **told)


def _stream(
    file: DataFile,
    cache: str,
    builder: str,
    *,
    classes: dict[str, tuple[str, ...]] | None = None,
    **options: Any,
) -> Iterator[Mapping[str, Any]]:
    from datasets import load_dataset

    if file.path.stat().st_size == 0:
        return  # some of the library's readers stumble over it; the caller sees that there are no rows
    try:
        found = load_dataset(
            builder,
            data_files=[glob.escape(str(file.path))],
            split="train",
            streaming=True,
            cache_dir=cache,
            **options,
        )
        if classes is not None:
            classes.update(class_names(found.features))
        yield from without_media(found)
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte 0x{error.object[error.start]:02x})"
        raise UnreadableData(where=str(file.path), problem=problem) from None
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
    ) as error:  # pandas' and pyarrow's errors are ValueErrors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableData(where=str(file.path), problem=f"no valid {file.format}: {reason}") from None


def _parsed(lines: Iterator[str], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", _row(_json(line, f"{path}, line {number}"), f"{path}, line {number}")


def _json_rows(file: DataFile, cache: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a file called .json: an array of objects, or lines after all, which is common."""
    path = str(file.path)
    text = "".join(
        row["text"] for row in _stream(file, cache, "text", encoding="utf-8-sig", sample_by="document")
    )
    if text.lstrip().startswith("["):
        for count, row in enumerate(_json(text, path), 1):
            yield f"row {count}", _row(row, f"{path}, row {count}")
    else:
        yield from _parsed(iter(text.split("\n")), path)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableData(
            where=where, problem=f"no valid JSON: {error.msg} at column {error.colno}"
        ) from None
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
