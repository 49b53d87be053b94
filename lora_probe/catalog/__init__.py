"""Published model configs inside the package: look-up by hub id, without a network.

Pure: reads text files, imports neither torch nor transformers. The files under ``data/`` hold one model a
line, sorted by id, so that a change of one model is a change of one line; :mod:`lora_probe.catalog.records`
says what a line holds and :mod:`lora_probe.catalog.check` proves that it is true.
"""

from __future__ import annotations

from lora_probe.catalog.lookup import entries, find, near
from lora_probe.catalog.records import Entry, Evidence, Provenance, PublishedTotal, Scope

__all__ = ["Entry", "Evidence", "Provenance", "PublishedTotal", "Scope", "entries", "find", "near"]
