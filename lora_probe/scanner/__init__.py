"""Scanning: whatever names or is a model becomes a module graph."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeGuard

from lora_probe._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from lora_probe.graph import ModuleGraph
    from lora_probe.source import Located
    from lora_probe.source.build import Built

__all__ = ["scan"]


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
    that the installed transformers lacks is read from its checkpoint's safetensors headers. With `cache`, the
    graph of an earlier scan of the same thing is read back from disk, without torch.

    Raises:
        LoraProbeError: the model cannot be found, read or built; the subclass says which.

    """
    if _is_module(model):
        return _walk(model, model=type(model).__name__, source="module")
    if isinstance(model, (str, os.PathLike)):
        from lora_probe.source import locate

        located = locate(model, source=source, revision=revision, token=token)
        if not cache:
            return _scan_located(located, trust_remote_code=trust_remote_code)
        return _scan_cached(located, trust_remote_code=trust_remote_code)
    from lora_probe.source.build import build

    built = build(model)
    return _walk(built.module, model=built.architecture, source="config", built=built)


def _is_module(model: object) -> TypeGuard[nn.Module]:
    torch = sys.modules.get("torch")  # who holds a module has loaded torch
    return torch is not None and isinstance(model, torch.nn.Module)


def _scan_cached(located: Located, *, trust_remote_code: bool) -> ModuleGraph:
    from lora_probe.cache import cache_key, load, store

    key = cache_key(located, versions=_versions(), trust_remote_code=trust_remote_code)
    if key and (kept := load(key)):
        return kept
    graph = _scan_located(located, trust_remote_code=trust_remote_code)
    if key:
        store(key, graph)
    return graph


def _scan_located(located: Located, *, trust_remote_code: bool) -> ModuleGraph:
    from lora_probe.source.build import build

    built = build(located, trust_remote_code=trust_remote_code)
    return _walk(
        built.module,
        model=located.model,
        source=f"{located.kind}:{located.detail}",
        built=built,
        revision=located.revision,
    )


def _walk(
    module: nn.Module, *, model: str, source: str, built: Built | None = None, revision: str | None = None
) -> ModuleGraph:
    from lora_probe.scanner.storage import as_stored
    from lora_probe.scanner.walk import walk

    graph = walk(
        module,
        model=model,
        source=source,
        revision=revision,
        versions=_versions(),
        notes=built.notes if built else (),
    )
    return as_stored(graph, built.config) if built else graph


def _versions() -> Mapping[str, str]:
    """Return the versions that can change what a scan says, without loading the packages."""
    return {"lora-probe": __version__, **{name: version(name) for name in ("torch", "transformers", "peft")}}
