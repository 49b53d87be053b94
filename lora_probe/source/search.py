"""Find the config of a model: the nearest source that has it, or the one that is asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lora_probe import catalog
from lora_probe.errors import ModelNotFound, SourceUnavailable
from lora_probe.source.files import exists, is_folder
from lora_probe.source.hub_cache import locate_cached
from lora_probe.source.local import locate_file, locate_folder, looks_like_path
from lora_probe.source.records import Located, SourceKind

__all__ = ["locate"]

_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_LONGEST_ID = 96
_REMOTE = (SourceKind.CACHE, SourceKind.CATALOGUE, SourceKind.HUB)


def locate(
    model: str | os.PathLike[str],
    *,
    source: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Located:
    """Find the config of `model`: a local path, else the hub's cache, the catalogue, or the hub.

    Neither torch nor transformers is loaded, and the network is used only when all nearer sources lack the
    model. `source` forces one of them by its name in :class:`SourceKind`. `revision` (a branch, tag or commit
    of the hub repository) passes over the catalogue, which holds one state of each model. `token` is as
    huggingface_hub takes it: None reads the environment, False sends none.

    Raises:
        ModelNotFound: no source knows the model; names ids of the catalogue that look like it.
        SourceUnavailable: the forced source cannot have it.
        HubError: the hub refused, or could not be reached.
        UnreadableFile, BadConfig: what was found cannot be read, or is no config.

    """
    kind = _kind(model, source)
    if isinstance(model, os.PathLike) or kind in {SourceKind.FOLDER, SourceKind.CONFIG}:
        return _locate_path(os.fspath(model), kind)
    if kind is None and model and exists(Path(model)):
        return _locate_path(model, kind)
    if kind is None and looks_like_path(model):
        raise ModelNotFound(model=model, problem="there is no such file or folder", advice="check the path")
    _require_hub_id(model)
    for each in _REMOTE if kind is None else (kind,):
        found = _locate_by_id(model, each, revision=revision, token=token, forced=kind is not None)
        if found is not None:
            return found
    near = catalog.near(model) if kind is SourceKind.CATALOGUE else ()
    raise SourceUnavailable(model=model, source=str(kind), problem=f"the {kind} does not hold it", near=near)


def _kind(model: object, source: str | None) -> SourceKind | None:
    if source is None:
        return None
    try:
        kind = SourceKind(source)
    except ValueError:
        kinds = ", ".join(each.value for each in SourceKind if each is not SourceKind.MODULE)
        raise SourceUnavailable(model=str(model), source=source, problem=f"sources are {kinds}") from None
    if kind is SourceKind.MODULE:
        raise SourceUnavailable(model=str(model), source=source, problem="pass the module object itself")
    return kind


def _locate_path(text: str, kind: SourceKind | None) -> Located:
    path = Path(text)
    if not exists(path):
        raise ModelNotFound(model=text, problem="there is no such file or folder", advice="check the path")
    if is_folder(path):
        if kind is SourceKind.CONFIG:
            raise SourceUnavailable(model=text, source=kind.value, problem="it is a folder")
        return locate_folder(path, model=text)
    if kind is SourceKind.FOLDER:
        raise SourceUnavailable(model=text, source=kind.value, problem="it is no folder")
    return locate_file(path, model=text)


def _require_hub_id(model: str) -> None:
    if not _HUB_ID.fullmatch(model) or len(model) > _LONGEST_ID or "--" in model or ".." in model:
        raise ModelNotFound(
            model=model or "''",
            problem="neither a path that exists nor a hub id (owner/name)",
            near=catalog.near(model[:_LONGEST_ID]),
            advice="check the spelling",
        )


def _locate_by_id(
    model: str, kind: SourceKind, *, revision: str | None, token: str | bool | None, forced: bool
) -> Located | None:
    if kind is SourceKind.CACHE:
        return locate_cached(model, revision=revision)
    if kind is SourceKind.HUB:
        from lora_probe.source.hub import locate_on_hub

        return locate_on_hub(model, revision=revision, token=token)
    if revision is not None:
        if forced:
            raise SourceUnavailable(model=model, source=kind.value, problem="the catalogue has no revisions")
        return None
    entry = catalog.find(model)
    if entry is None:
        return None
    return Located(
        model=model,
        kind=kind,
        detail=entry.model_id,
        config=entry.config,
        repository=entry.model_id,
    )
