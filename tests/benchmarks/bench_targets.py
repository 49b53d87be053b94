"""Target sets on scanned models: counted beside a dry run of PEFT, and emitted for the largest models."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

import lora_probe
from lora_probe.budgeting.choice import choose
from lora_probe.budgeting.count import trainable_parameters
from lora_probe.catalog import entries, find
from lora_probe.peft_rules import Inventory, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture
    from torch import nn

    from lora_probe import ModuleGraph

MODEL = "meta-llama/Llama-3.1-8B"
SETS = ("q_proj,v_proj", "all-linear")
RANK = 8
WAYS = ("resolved and counted", "injected by PEFT")
ROUNDS = 7
MOST = 5
EMITTED = ("attention+experts", "attention@odd", "all-linear-attention@0")
"""Sets that a list of names says, that needs layers, and that takes an exclusion or a long expression."""


def largest() -> list[str]:
    """Return the largest models of the catalogue, no two of one model type or size."""
    found: list[str] = []
    seen: set[object] = set()
    for entry in sorted(entries(), key=lambda entry: entry.total_parameters or 0, reverse=True):
        facts = {entry.model_type, entry.total_parameters}
        if seen.isdisjoint(facts):
            found.append(entry.model_id)
        seen |= facts
    return found[:MOST]


@lru_cache
def scanned(model: str) -> ModuleGraph:
    """Return the scan that everything here starts from."""
    return lora_probe.scan(model, source="catalogue")


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", SETS)
@pytest.mark.parametrize("way", WAYS)
def test_one_set(way: str, targets: str, benchmark: BenchmarkFixture) -> None:
    """Time the count of one set, by our rules and by a dry run of PEFT on the same model."""
    count = _counter(targets) if way == WAYS[0] else _injector(targets)
    parameters = benchmark.pedantic(count, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(counted=targets, way=way, parameters=parameters)


@pytest.mark.bench
@pytest.mark.parametrize("targets", EMITTED)
@pytest.mark.parametrize("model", largest())
def test_emission(model: str, targets: str, benchmark: BenchmarkFixture) -> None:
    """Time the way back from a set's weights to what PEFT is told, with its proof by a second resolution."""
    graph = scanned(model)
    sites = lora_probe.resolve(graph, targets)
    settings = benchmark.pedantic(lora_probe.emit, args=(graph, sites), rounds=ROUNDS, warmup_rounds=1)
    told = [name for name in settings.to_lora_config() if name not in {"r", "lora_alpha"}]
    form = "regex" if isinstance(settings.target_modules, str) else "names"
    benchmark.extra_info.update(emitted=targets, model=model, sites=len(sites), told=[form, *told[1:]])


def _counter(targets: str) -> Callable[[], int]:
    """Return what resolves and counts from the bare graph, all that is worked out for it included."""
    graph = scanned(MODEL)

    def count() -> int:
        inventory = Inventory(graph)
        settings = choose(inventory, targets, {}).settings
        return trainable_parameters(predict(inventory, settings), inventory)

    return count


def _injector(targets: str) -> Callable[[], int]:
    from tests.oracle.truth import inject

    model, names = _meta_model(), targets if targets == "all-linear" else tuple(targets.split(","))
    return lambda: inject(model, {"target_modules": names, "rank": RANK}).parameters


@lru_cache
def _meta_model() -> nn.Module:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    entry = find(MODEL)
    assert entry is not None
    config = AutoConfig.for_model(**entry.config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]
