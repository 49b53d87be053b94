"""Where a model comes from: a path, the hub's cache, the catalogue or the hub itself."""

from __future__ import annotations

from lora_probe.source.records import Located, SourceKind
from lora_probe.source.search import locate

__all__ = ["Located", "SourceKind", "locate"]
