"""Budgets of a model that is already scanned, and one dry run of PEFT beside the count of the same set."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.budgeting.choice import choose
from lora_probe.budgeting.count import trainable_parameters
from lora_probe.peft_rules import Inventory, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture
    from torch import nn

    from lora_probe import ModuleGraph

MODEL = "meta-llama/Llama-3.1-8B"
TARGETS = "all-linear"
RANK = 8
ROUNDS = 7
ROLES = (
    "attention.q", "attention.k", "attention.v", "attention.o", "mlp.gate", "mlp.up", "mlp.down",
)  # fmt: skip
EVERY_SET = ["+".join(roles) for size in range(1, len(ROLES) + 1) for roles in combinations(ROLES, size)]
SWEEPS = {
    "all 127 sets of seven roles at 8 ranks": (EVERY_SET, [2**power for power in range(8)]),
    "4 common sets at 250 ranks": (["qv", "attention", "mlp", TARGETS], list(range(1, 251))),
}


@pytest.fixture(scope="module")
def graph() -> ModuleGraph:
    """Return the scan that all budgets start from."""
    return lora_probe.scan(MODEL)


@pytest.mark.bench
@pytest.mark.parametrize("sweep", SWEEPS)
def test_sweep(sweep: str, graph: ModuleGraph, benchmark: BenchmarkFixture) -> None:
    """Time a thousand rows, each with its parameters and the exact bytes of its file."""
    sets, ranks = SWEEPS[sweep]
    found = benchmark.pedantic(lora_probe.budget, args=(graph, sets, ranks), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(budget=sweep, rows=len(found.rows))


@pytest.mark.bench
@pytest.mark.parametrize("way", ["resolved and counted", "injected by PEFT"])
def test_one_set(way: str, graph: ModuleGraph, benchmark: BenchmarkFixture) -> None:
    """Time the count of one set, by our rules and by a dry run of PEFT on the same model."""
    count = _counter(graph) if way == "resolved and counted" else _injector(_meta_model())
    parameters = benchmark.pedantic(count, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(one_set=way, parameters=parameters)


def _counter(graph: ModuleGraph) -> Callable[[], int]:
    """Return what resolves and counts from the bare graph, all that is worked out for it included."""

    def count() -> int:
        inventory = Inventory(graph)
        settings = choose(inventory, TARGETS, {}).settings
        return trainable_parameters(predict(inventory, settings), inventory)

    return count


def _injector(model: nn.Module) -> Callable[[], int]:
    from tests.oracle.truth import inject

    return lambda: inject(model, {"target_modules": TARGETS, "rank": RANK}).parameters


def _meta_model() -> nn.Module:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from lora_probe.catalog import find

    entry = find(MODEL)
    assert entry is not None
    config = AutoConfig.for_model(**entry.config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]
