"""The demo's own model and data, so that a pilot runs offline, from weights to verdict.

The model is a Llama of one million parameters that has read the source of Python's standard library and
nothing else (`training` is the script that made it). The data is the text behind Python's ``help()``, which
the model has never seen: prose about the language instead of code in it.
"""

from __future__ import annotations

import json
import os
import tempfile
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.cache import cache_folder
from lora_probe.piloting.errors import ForeignFolder, UnwritableFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["demo_data", "model_folder", "passages", "set_up"]

_PASSAGE = 320
"""Most characters of an example: about as many tokens as the model reads at once."""


def model_folder() -> Path:
    """Return the folder of the demo's model and tokenizer, as `from_pretrained` reads it."""
    return Path(__file__).parent / "model"


def demo_data(folder: Path | None = None) -> Path:
    """Return a JSONL file with one passage of Python's help topics a line, as ``text``; write it if need be.

    Its name holds the digest of its content, since each Python has other topics. It lies in `folder`, by
    default in the cache.
    """
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    lines = "".join(f"{json.dumps({'text': text})}\n" for text in passages(topics.values()))
    folder = folder or (cache_folder() or Path(tempfile.gettempdir(), "lora-probe")) / "demo"
    path = folder / f"topics-{sha256(lines.encode()).hexdigest()[:12]}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}.half")
        half.write_text(lines, encoding="utf-8")
        half.replace(path)
    return path


def set_up(folder: Path) -> tuple[Path, Path]:
    """Put the demo's model and data into `folder`, where they are not there yet; return where they lie.

    Raises:
        ForeignFolder: a file is in the way, or another model.
        UnwritableFolder: it cannot be written.

    """
    if folder.exists() and not folder.is_dir():
        raise ForeignFolder(path=str(folder), problem="it is a file")
    model = folder / "model"
    try:
        model.mkdir(parents=True, exist_ok=True)
        others = [each.name for each in model_folder().iterdir() if not _put(each, model / each.name)]
        data = demo_data(folder)
    except OSError as error:
        raise UnwritableFolder(path=str(folder), reason=error.strerror or str(error)) from error
    if others:
        raise ForeignFolder(path=str(folder), problem=f"its model/{others[0]} is not the demo's")
    return model, data


def _put(file: Path, place: Path) -> bool:
    """Copy a file to where none is, and return whether its like is there now."""
    if not place.exists():
        place.write_bytes(file.read_bytes())
    return place.read_bytes() == file.read_bytes()


def passages(texts: Iterable[str]) -> list[str]:
    """Return each paragraph of `texts` once, with its neighbours as long as they fit into one example."""
    seen: set[str] = set()
    found = []
    for text in texts:
        passage = ""
        for part in _parts(text):
            if part in seen:
                continue
            seen.add(part)
            if passage and len(passage) + len(part) + 2 > _PASSAGE:
                found.append(passage)
                passage = ""
            passage = f"{passage}\n\n{part}" if passage else part
        if passage:
            found.append(passage)
    return found


def _parts(text: str) -> Iterator[str]:
    """Yield the paragraphs of a topic; one that is too long is cut between its lines."""
    for paragraph in text.split("\n\n"):
        part = ""
        for line in paragraph.strip("\n").splitlines():
            if part and len(part) + len(line) + 1 > _PASSAGE:
                yield part
                part = ""
            part = f"{part}\n{line}" if part else line
        if part.strip():
            yield part
