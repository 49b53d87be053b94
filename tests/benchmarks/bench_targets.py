"""Targets on a model that is already scanned: our resolution against PEFT's dry run, and emission."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.budgeting.count import trainable_parameters
from lora_probe.peft_rules import Inventory, predict

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture
    from torch import nn

    from lora_probe import ModuleGraph

SETS = ("q_proj,v_proj", "all-linear")
LARGEST = ("moonshotai/Kimi-K2-Instruct", "deepseek-ai/DeepSeek-V3", "meta-llama/Llama-3.1-405B")
ROUNDS = 7


def _built(model: str) -> tuple[nn.Module, ModuleGraph]:
    from lora_probe.catalog import find
    from lora_probe.source.build import build

    entry = find(model)
    assert entry is not None
    module = build(entry.config).module
    return module, lora_probe.scan(module)


@pytest.mark.bench
@pytest.mark.parametrize("targets", SETS)
def test_resolve_and_count(targets: str, benchmark: BenchmarkFixture) -> None:
    """Time a set of Llama-3.1-8B from its text to its number of trainable parameters."""
    _, graph = _built("meta-llama/Llama-3.1-8B")

    def resolve_and_count() -> int:
        inventory = Inventory(graph)
        settings = lora_probe.emit(inventory, lora_probe.resolve(inventory, targets))
        return trainable_parameters(predict(inventory, settings), inventory)

    trainable = benchmark.pedantic(resolve_and_count, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(targets=targets, trainable=trainable)


@pytest.mark.bench
@pytest.mark.parametrize("targets", SETS)
@pytest.mark.filterwarnings("ignore")
def test_peft_dry_run(targets: str, benchmark: BenchmarkFixture) -> None:
    """Time what PEFT does for the same set on the same meta model."""
    from tests.oracle.truth import inject

    module, _ = _built("meta-llama/Llama-3.1-8B")
    names = targets if targets == "all-linear" else tuple(targets.split(","))
    trained = benchmark.pedantic(
        inject, args=(module, {"rank": 8, "target_modules": names}), rounds=ROUNDS, warmup_rounds=1
    )
    benchmark.extra_info.update(targets=targets, trainable=trained.parameters)


@pytest.mark.bench
@pytest.mark.parametrize("model", LARGEST)
def test_emit_on_the_largest(model: str, benchmark: BenchmarkFixture) -> None:
    """Time the emission of a set that no short list can say, on the largest models of the catalogue."""
    _, graph = _built(model)
    sites = lora_probe.resolve(graph, "all-linear - attention.o@0")
    settings = benchmark.pedantic(lora_probe.emit, args=(graph, sites), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(model=model, sites=len(sites), exclusion=settings.exclude_modules)
