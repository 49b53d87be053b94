"""One process at a time: locks that the operating system gives back when their process dies."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from lora_probe.errors import UnwritableOutput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_held", "locked", "owner"]

_PATIENCE = 1.0
"""Seconds in which whoever only looks whether a lock is held has let it go."""
_OWNER = re.compile(r"process \d+ on \S+")


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` while the block runs; yields False, at once, where another process holds it.

    The file stays behind; it locks nothing once its process is gone, however that ended.

    Raises:
        UnwritableOutput: the file cannot be made, or its file system has no locks.

    """
    with _opened(path) as file:
        deadline = time.monotonic() + _PATIENCE
        while not (mine := _try_lock(file, path)) and time.monotonic() < deadline:
            time.sleep(_PATIENCE / 20)
        if mine:
            with suppress(OSError):  # on a full disk the name is missing, the lock is not
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                file.flush()
        yield mine


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at `path`."""
    if not path.exists():
        return False
    with _opened(path) as file:
        return not _try_lock(file, path)


def owner(path: Path) -> str:
    """Return who took the lock at `path` last, in words; "another process" where that is not known."""
    with suppress(OSError, ValueError):
        found = _OWNER.match(path.read_text(encoding="utf-8"))
        if found:
            return found[0]
    return "another process"


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise UnwritableOutput(path=str(path), reason=error.strerror or str(error)) from error
    with file:
        yield file


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes], path: Path) -> bool:
        del path
        try:
            file.seek(2**30)  # beyond the text, which stays readable
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes], path: Path) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise UnwritableOutput(path=str(path), reason=f"no lock ({error.strerror})") from error
        return True
