"""Budgets of a model that is already scanned."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest

import lora_probe

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from lora_probe import ModuleGraph

MODEL = "meta-llama/Llama-3.1-8B"
TARGETS = "all-linear"
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
