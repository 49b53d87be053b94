"""What the tests with the trainers' own code share: where the trainers are, and sets to export."""

from __future__ import annotations

import ast
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lora_probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.graph import ModuleGraph

__all__ = ["GEMMA", "GPT2", "LLAMA", "QWEN_MOE", "SETS", "definition", "exported", "folder_of", "tree_of"]

LLAMA, GEMMA, QWEN_MOE, GPT2 = (
    "meta-llama/Llama-3.1-8B", "google/gemma-3-4b-it", "Qwen/Qwen3-30B-A3B", "openai-community/gpt2",
)  # fmt: skip
SETS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    (LLAMA, "attention.q", {}),
    (LLAMA, "attention+mlp", {"use_rslora": True, "alpha": 32}),
    (LLAMA, "attention@last:8", {"dropout": 0.05}),
    (GEMMA, "text:attention", {"use_dora": True}),
    (QWEN_MOE, "attention+experts", {}),
    (GPT2, "attention", {"modules_to_save": ("wpe",)}),
)


def folder_of(package: str) -> Path:
    """Return where `package` is installed, without importing it; fails or skips where it is not."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        if os.environ.get("LORA_PROBE_TRAINERS") == "1":
            pytest.fail(f"{package} is not installed: run make trainers")
        pytest.skip(f"{package} is not installed: run make trainers")
    return Path(next(iter(spec.submodule_search_locations)))


def tree_of(package: str, path: str) -> ast.Module:
    """Return the source of a module of an installed package."""
    return ast.parse((folder_of(package) / path).read_text("utf-8"))


def definition(tree: ast.Module, name: str) -> Any:
    """Return the class or function `name`, on whatever level."""
    return next(each for each in ast.walk(tree) if getattr(each, "name", None) == name)


def exported(model: str, targets: str, to: str, options: Mapping[str, Any]) -> tuple[ModuleGraph, str]:
    """Return the graph and the text."""
    graph = lora_probe.scan(model)
    return graph, lora_probe.export(graph, targets, to=to, rank=4, **options)
