"""The walk over a model that is already built: one process, growing models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lora_probe

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LAYERS = (32, 128, 512)
ROUNDS = 7


@pytest.mark.bench
@pytest.mark.parametrize("layers", LAYERS)
def test_walk(layers: int, benchmark: BenchmarkFixture) -> None:
    """Time the scan of a live module of 1x, 4x and 16x as many layers."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=layers))
    graph = benchmark.pedantic(lora_probe.scan, args=(model,), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(layers=layers, modules=len(graph.modules))
