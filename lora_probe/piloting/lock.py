"""One process at a time: locks that the operating system gives back when their process dies."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from lora_probe.piloting.errors import UnwritableFolder

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

    The file stays behind; it locks nothing once its process is gone, however that ended. Whoever holds the
    lock may remove it: a process that waited for the old file takes a new one.

    Raises:
        UnwritableFolder: the file cannot be made, or its file system has no locks.

    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        with _made(path) as file:
            if _try_lock(file, path) and _is_at(path, file):
                with suppress(OSError):  # on a full disk the name is missing, the lock is not
                    file.truncate(0)
                    file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                    file.flush()
                yield True
                return
        if time.monotonic() > deadline:
            yield False
            return
        time.sleep(_PATIENCE / 20)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at `path`."""
    try:
        file: IO[bytes] = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        return not _try_lock(file, path)


def owner(path: Path) -> str:
    """Return who took the lock at `path` last, in words; "another process" where that is not known."""
    with suppress(OSError, ValueError):
        found = _OWNER.match(path.read_text(encoding="utf-8"))
        if found:
            return found[0]
    return "another process"


def _made(path: Path) -> IO[bytes]:
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UnwritableFolder:
    return UnwritableFolder(path=str(path.parent), reason=error.strerror or str(error))


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Return whether `path` still leads to `file`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


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
            reason = f"its file system has no locks: {error.strerror}"
            raise UnwritableFolder(path=str(path.parent), reason=reason) from error
        return True
