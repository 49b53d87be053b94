"""Open only what is a regular file, and say plainly why something cannot be read."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from lora_probe.errors import LoraProbeError, UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["exists", "file_names", "is_file", "is_folder", "open_regular", "read_bytes"]


@contextmanager
def open_regular(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file for reading.

    Raises:
        UnreadableFile: there is none, or it may not be read; also for trouble while the block reads it.

    """
    # Without O_NONBLOCK, opening a FIFO that nobody writes to never returns.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 -- a descriptor, not a path
            _require_regular(file, path)
            yield file
    except LoraProbeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise UnreadableFile(path=str(path), reason=_words(error)) from error


def read_bytes(path: Path, *, limit: int) -> bytes:
    """Return the first `limit` bytes of a regular file.

    Raises:
        UnreadableFile: as :func:`open_regular`.

    """
    with open_regular(path) as file:
        return file.read(limit)


def file_names(folder: Path) -> list[str]:
    """Return the sorted names in a folder.

    Raises:
        UnreadableFile: it may not be listed.

    """
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 -- names, not paths
    except OSError as error:
        raise UnreadableFile(path=str(folder), reason=_words(error)) from error


def exists(path: Path) -> bool:
    """Return whether something is at `path`, be it unreadable or a link to itself."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in the path
        return False


# Unlike pathlib's own before Python 3.14, these two never raise.


def is_file(path: Path) -> bool:
    """Return whether `path` is a regular file that can be looked up."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder that can be looked up."""
    return os.path.isdir(path)  # noqa: PTH112


def _require_regular(file: IO[bytes], path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise UnreadableFile(path=str(path), reason="it is not a regular file")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
