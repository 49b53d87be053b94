"""Graphs of earlier scans, kept on disk so that a repeated scan needs no torch.

An entry is a gzip file whose name is the digest of everything that the answer depends on, so that an entry is
never out of date, only unused. Entries are written beside their place and moved there in one step: two
processes cannot see each other's half. What cannot be read back whole is removed and scanned again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import sys
import time
import zlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.errors import GraphFormatError
from lora_probe.graph import FORMAT, ModuleGraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lora_probe.source import Located

__all__ = ["cache_folder", "cache_key", "load", "store"]

MAX_BYTES = 64 * 2**20
"""What all entries together may take; the least recently used go first."""
_ENTRY = re.compile(r"[0-9a-f]{64}\.json\.gz")
_HALF = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}\.half")
_ABANDONED_SECONDS = 3600
"""Age at which the half-written file of a killed process is removed."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOVING = re.compile(r"\.dev0|\+g")
"""Versions under which the code of a checkout may change without a new number."""


def cache_key(
    located: Located, *, versions: Mapping[str, str], trust_remote_code: bool = False
) -> str | None:
    """Return the digest of everything that a scan of `located` depends on, or None where that is not known.

    That is: the config and where it was found, the checkpoint's files (their headers may be read), the
    versions of the packages that build the model, Python's, and this package's own files. Not known, and so
    never cached, is what code from a repository does, what a branch of a hub repository holds next, and what
    the development checkout of a package does.
    """
    if trust_remote_code or any(map(_MOVING.search, versions.values())):
        return None
    if located.kind == "hub" and not _COMMIT.fullmatch(located.revision or ""):
        return None
    facts = {
        "format": FORMAT,
        "model": located.model,
        "source": [str(located.kind), located.detail, located.repository, located.revision],
        "config": located.config,
        "notes": [[note.code, note.message] for note in located.notes],
        "checkpoint": list(_fingerprints(located.folder, "*.safetensors*")),
        "versions": dict(versions) | {"timm": _version("timm")},
        "python": sys.version_info[:2],
        "package": list(_fingerprints(Path(__file__).parent, "**/*.py")),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def load(key: str) -> ModuleGraph | None:
    """Return the graph stored under `key`, None where there is none; a damaged entry is removed."""
    folder = cache_folder()
    if folder is None:
        return None
    path = folder / f"{key}.json.gz"
    try:
        packed = path.read_bytes()
    except OSError:
        return None
    try:
        graph = ModuleGraph.from_json(gzip.decompress(packed))  # gzip checks length and sum
    except (EOFError, OSError, zlib.error, GraphFormatError):
        _remove(path)
        return None
    _touch(path)
    return graph


def store(key: str, graph: ModuleGraph) -> None:
    """Keep `graph` under `key`; where the folder cannot be written nothing happens.

    A graph that was read from the headers of a hub repository without a commit is not kept: they may change.
    """
    folder = cache_folder()
    if folder is None or _may_change(graph):
        return
    packed = gzip.compress(graph.to_json().encode(), compresslevel=5, mtime=0)
    if len(packed) > MAX_BYTES:
        return
    path = folder / f"{key}.json.gz"
    half = folder / f"{key}.{os.urandom(4).hex()}.half"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        half.write_bytes(packed)
        half.replace(path)
        _evict(folder)
    except OSError:
        _remove(half)


def cache_folder() -> Path | None:
    """Return where entries are kept: ``LORA_PROBE_CACHE``, else the platform's folder for caches."""
    own = os.environ.get("LORA_PROBE_CACHE")
    if own:
        return Path(own).absolute()
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            given = Path(os.environ.get("XDG_CACHE_HOME", ""))
            base = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None
    return base / "lora-probe"


def _version(package: str) -> str | None:
    """Return the version of a package that builds parts of models where it is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _may_change(graph: ModuleGraph) -> bool:
    """Tell whether `graph` is of headers that lie on a branch of a hub repository."""
    pinned = _COMMIT.fullmatch(graph.revision or "") or graph.source.startswith(("folder", "config"))
    return not pinned and any(note.code == "read-from-headers" for note in graph.notes)


def _fingerprints(folder: Path | None, pattern: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, bytes and time of change of the files in `folder`, which stand for their content."""
    for path in sorted(folder.glob(pattern)) if folder else ():
        try:
            facts = path.stat()
        except OSError:
            continue
        yield str(path.relative_to(folder or path)), facts.st_size, facts.st_mtime_ns


def _evict(folder: Path) -> None:
    """Remove what a killed process left, and the least recently used entries beyond the bound."""
    for _, changed, path in _owned(folder, _HALF):
        if changed < time.time() - _ABANDONED_SECONDS:
            _remove(path)
    kept = 0
    for size, _, path in sorted(_owned(folder, _ENTRY), key=lambda entry: entry[1], reverse=True):
        kept += size
        if kept > MAX_BYTES:
            _remove(path)


def _owned(folder: Path, name: re.Pattern[str]) -> Iterator[tuple[int, float, Path]]:
    """Yield size, time of last use and path of the files that this module made; others are left alone."""
    for path in folder.iterdir():
        if name.fullmatch(path.name):
            with suppress(OSError):  # another process removed it
                facts = path.stat()
                yield facts.st_size, facts.st_mtime, path


def _touch(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
