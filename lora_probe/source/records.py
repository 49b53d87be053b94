"""What a look-up found: which config, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from lora_probe.graph import Note

__all__ = ["Located", "SourceKind"]


class SourceKind(str, Enum):
    """The places where a model is looked for, in the order of the search."""

    MODULE = "module"
    FOLDER = "folder"
    CONFIG = "config"
    CACHE = "cache"
    CATALOGUE = "catalogue"
    HUB = "hub"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A model's config and its origin; nothing has been built yet."""

    model: str
    """What was asked for: a hub id or a path, as given."""
    kind: SourceKind
    detail: str
    """Where exactly: the path read, the commit, or the catalogue's id."""
    config: dict[str, Any] | None = field(hash=False)
    """The raw ``config.json``; None where a folder holds only weights."""
    repository: str | None = None
    """Id on the hub, ``owner/name``; None for local files."""
    revision: str | None = None
    """Commit of the hub repository, or the revision asked for; None where neither is known."""
    folder: Path | None = None
    """Local folder that may hold the checkpoint (headers, remote code); None where there is none."""
    notes: tuple[Note, ...] = ()
