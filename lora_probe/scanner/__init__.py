"""Scanning: whatever names or is a model becomes a module graph."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeGuard

from lora_probe._version import __version__
from lora_probe.errors import BuildError, CheckpointNotFound, HubError, ModelNotFound, UnknownArchitecture
from lora_probe.graph import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from lora_probe.graph import ModuleGraph
    from lora_probe.scanner.verification import Mismatch
    from lora_probe.source import Located
    from lora_probe.source.build import Built

__all__ = ["scan", "verify"]


def scan(
    model: str | os.PathLike[str] | nn.Module | Any,
    *,
    source: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
    cache: bool = True,
) -> ModuleGraph:
    """Return the graph of `model`: its layers, their roles, and every parameter counted once.

    `model` is a hub id, a folder, a ``config.json``, a transformers config, or a live ``nn.Module`` (also on
    the meta device, quantized, or wrapped by PEFT). No weight is loaded. For a name, `source`, `revision` and
    `token` say where to look, and `trust_remote_code` lets the repository's own code run. An architecture
    that cannot be built here is read from its checkpoint's safetensors headers. With `cache`, the graph of an
    earlier scan of the same thing is read back from disk, without torch.

    Raises:
        LoraProbeError: the model cannot be found, read or built; the subclass says which.

    """
    if _is_module(model):
        return _walk(model, model=type(model).__name__, source="module")
    if not isinstance(model, (str, os.PathLike)):
        from lora_probe.source.build import build

        built = build(model)
        return _walk(built.module, model=built.architecture, source="config", built=built)
    from lora_probe.source import locate

    located = locate(model, source=source, revision=revision, token=token)
    if not cache:
        return _scan_located(located, trust_remote_code=trust_remote_code, token=token)
    return _scan_cached(located, trust_remote_code=trust_remote_code, token=token)


def verify(
    model: str | os.PathLike[str] | nn.Module | Any,
    *,
    source: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> tuple[Mismatch, ...]:
    """Return what PEFT does otherwise than a scan of `model` says; nothing where they agree.

    Every adaptable site gets a real LoRA, on a copy without weights. Arguments are those of :func:`scan`.

    Raises:
        LoraProbeError: the model cannot be found or built; its headers alone are not enough.

    """
    from lora_probe.scanner.verification import mismatches
    from lora_probe.source.build import build

    if _is_module(model):
        return mismatches(scan(model), model)
    if isinstance(model, (str, os.PathLike)):
        from lora_probe.source import locate

        model = locate(model, source=source, revision=revision, token=token)
    built = build(model, trust_remote_code=trust_remote_code, token=token)
    graph = _walk(built.module, model=built.architecture, source="config", built=built)
    return mismatches(graph, built.module)


def _is_module(model: object) -> TypeGuard[nn.Module]:
    torch = sys.modules.get("torch")  # who holds a module has loaded torch
    return torch is not None and isinstance(model, torch.nn.Module)


def _scan_cached(located: Located, *, trust_remote_code: bool, token: str | bool | None) -> ModuleGraph:
    from lora_probe.cache import cache_key, load, store

    key = cache_key(located, versions=_versions(), trust_remote_code=trust_remote_code)
    if key and (kept := load(key)):
        return kept
    graph = _scan_located(located, trust_remote_code=trust_remote_code, token=token)
    if key:
        store(key, graph)
    return graph


def _scan_located(located: Located, *, trust_remote_code: bool, token: str | bool | None) -> ModuleGraph:
    from lora_probe.source.build import build

    try:
        built = build(located, trust_remote_code=trust_remote_code, token=token)
    except (UnknownArchitecture, BuildError) as error:
        return _scan_headers(located, error, token=token)
    graph = _walk(built.module, model=located.model, source=_source(located), built=built)
    return replace(graph, revision=located.revision, notes=(*located.notes, *graph.notes))


def _scan_headers(
    located: Located, error: UnknownArchitecture | BuildError, *, token: str | bool | None
) -> ModuleGraph:
    """Scan the checkpoint's headers for want of a module; without a checkpoint, `error` is raised."""
    from lora_probe.scanner.headers import graph_of_headers
    from lora_probe.source.tensors import checkpoint_tensors

    try:
        tensors = checkpoint_tensors(located, token=token)
    except (CheckpointNotFound, HubError, ModelNotFound) as missing:
        raise error from missing  # what is there but damaged is said instead
    problem = error.problem if isinstance(error, UnknownArchitecture) else error.reason
    message = f"not built ({problem}): names and shapes are those of the checkpoint, roles follow the names"
    return graph_of_headers(
        tensors,
        located.config or {},
        model=located.model,
        source=_source(located),
        revision=located.revision,
        versions=_versions(),
        notes=(*located.notes, Note(code="read-from-headers", message=message)),
    )


def _walk(module: nn.Module, *, model: str, source: str, built: Built | None = None) -> ModuleGraph:
    from lora_probe.scanner.storage import as_stored
    from lora_probe.scanner.walk import walk

    notes = built.notes if built else ()
    graph = walk(module, model=model, source=source, versions=_versions(), notes=notes)
    return as_stored(graph, built.config) if built else graph


def _source(located: Located) -> str:
    return f"{located.kind}:{located.detail}" if located.detail else str(located.kind)


def _versions() -> Mapping[str, str]:
    """Return the versions that can change what a scan says, without loading the packages."""
    return {"lora-probe": __version__, **{name: version(name) for name in ("torch", "transformers", "peft")}}
