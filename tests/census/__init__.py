"""The census: every model type that the installed transformers can build, scanned from its default config.

``for model_type, graph in graphs(): …`` goes over all that build (about 590 of some 800 registered names, a
minute on one core), ``graphs(["llama", "gpt_oss"])`` over a few; `models` gives the meta modules instead.
Settings without which a default config does not build are in :mod:`tests.census.quirks`, with reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe import scan
from lora_probe.source.isolation import quiet
from tests.census.build import Unbuildable, build_type, model_types, saved_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from lora_probe import ModuleGraph

__all__ = ["Unbuildable", "build_type", "graphs", "model_types", "models", "saved_tensors"]


def models(
    names: Iterable[str] | None = None, *, reasons: dict[str, str] | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Yield (model type, module on the meta device) of each type that builds: all types, or those of `names`.

    Why the others do not is put into `reasons`, by model type.
    """
    for model_type in model_types() if names is None else names:
        with quiet():  # default configs warn about themselves
            try:
                model = build_type(model_type)
            except Unbuildable as reason:
                if reasons is not None:
                    reasons[model_type] = str(reason)
                continue
        yield model_type, model


def graphs(
    names: Iterable[str] | None = None, *, reasons: dict[str, str] | None = None
) -> Iterator[tuple[str, ModuleGraph]]:
    """Yield (model type, its scan) of each type that builds, as :func:`models` does."""
    for model_type, model in models(names, reasons=reasons):
        yield model_type, scan(model)
