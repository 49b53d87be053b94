"""Look into the hub's local cache without loading its client.

The layout is documented (huggingface_hub, "Manage your cache"): ``models--owner--name/refs/REVISION`` holds a
commit, and ``snapshots/COMMIT/`` holds that commit's files.
"""

from __future__ import annotations

import re
from pathlib import Path

from lora_probe.errors import BadConfig
from lora_probe.source.config_file import read_config
from lora_probe.source.environment import cache_folder
from lora_probe.source.files import is_file
from lora_probe.source.records import Located, SourceKind

__all__ = ["locate_cached"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_REF = 64


def locate_cached(model: str, *, revision: str | None) -> Located | None:
    """Return the cached config of a hub id, None where the cache does not hold it.

    Raises:
        BadConfig: the cached file is damaged; names the file to delete.

    """
    repository = cache_folder() / f"models--{model.replace('/', '--')}"
    commit = _commit(repository, revision or "main")
    if commit is None:
        return None
    folder = repository / "snapshots" / commit
    path = folder / "config.json"
    if not is_file(path):
        return None
    try:
        config = read_config(path)
    except BadConfig as error:
        problem = f"{error.problem} (a damaged download: delete the file and try again)"
        raise BadConfig(where=error.where, problem=problem) from error
    return Located(
        model=model,
        kind=SourceKind.CACHE,
        detail=commit,
        config=config,
        repository=model,
        revision=commit,
        folder=folder,
    )


def _commit(repository: Path, revision: str) -> str | None:
    """Return the commit that `revision` (commit, branch or tag) last stood for."""
    if _COMMIT.fullmatch(revision):
        return revision
    if ".." in Path(revision).parts or Path(revision).is_absolute():
        return None
    try:
        text = (repository / "refs" / revision).read_bytes()[:_LONGEST_REF].decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if _COMMIT.fullmatch(text) else None
