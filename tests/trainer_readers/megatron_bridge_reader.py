"""Run exported statements with Megatron-Bridge's own classes of adapters and let them match layers.

Its `__init__` imports everything, Transformer Engine included, which is compiled with CUDA. The packages are
therefore entered without it, and the bases that classes of layers take from Transformer Engine are empty:
none of them is made here. What is read and matched is its own code on megatron-core.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

from torch import nn

from tests.trainer_readers.adapted import answer_cases


def enter_packages() -> None:
    """Make modules of Megatron-Bridge importable without the packages around them."""
    import_module("megatron.core.models.gpt")  # It looks for Transformer Engine, and does without.
    megatron = Path(next(iter(import_module("megatron").__path__)))
    for name in ("bridge", "bridge.peft", "bridge.utils"):
        package = ModuleType(f"megatron.{name}")
        package.__path__ = [str(megatron.joinpath(*name.split(".")))]
        sys.modules[package.__name__] = package
    layers = ModuleType("transformer_engine.pytorch")
    for name in ("Linear", "LayerNormLinear", "GroupedLinear"):
        setattr(layers, name, type(name, (nn.Module,), {}))
    layers.ops = MagicMock()  # type: ignore[attr-defined]
    engine = ModuleType("transformer_engine")
    engine.pytorch = layers  # type: ignore[attr-defined]
    sys.modules.update({"transformer_engine": engine, "transformer_engine.pytorch": layers})


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Return the class and fields that `text` makes, and what it adapts of the fused layers in `paths`."""
    names: dict[str, Any] = {}
    exec(case["text"], names)  # noqa: S102 what is exported is a statement
    peft = names["peft"]
    adapted = []
    for path in case["paths"]:
        prefix, _, name = path.rpartition(".")
        found = peft.match(nn.Linear(1, 1), name, prefix)
        if found is None:
            continue
        parts = getattr(peft, "canonical_mapping", {}).get(found[0]) or {name}
        adapted += [f"{prefix}.{part}" for part in sorted(parts)]
    fields = (type(peft).__name__, peft.dim, peft.alpha, peft.dropout, peft.dropout_position)
    return {"fields": fields, "adapted": adapted}


enter_packages()
answer_cases(answer)
