"""Target texts on every model of the catalogue: what is emitted means the same sites, to us and to PEFT."""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from lora_probe import emit, resolve, scan
from lora_probe.catalog import entries
from lora_probe.errors import NotExpressible, PeftRefusal, UnmatchedTarget
from lora_probe.peft_rules import Inventory, predict
from lora_probe.source.build import build
from lora_probe.targets.selection import any_rank
from tests.oracle.comparison import differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe import Site
    from lora_probe.peft_rules import LoraSettings

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

MODELS = {entry.model_id: entry for entry in entries() if entry.total_parameters is not None}
"""All that the tested transformers builds: tests/test_catalog_check.py proves the totals."""
FIRSTS = {entry.model_type: model_id for model_id, entry in reversed(MODELS.items())}
INJECTED = int(os.environ.get("ORACLE_CASES", "7")) // 2
"""Sets that PEFT injects into the first model of a type, and one into each other; our rules read them all."""
SPECS = (
    "all-linear", "attention", "mlp", "experts", "shared_experts", "router", "ssm", "cross_attention",
    "embedding", "head", "connector", "qv", "qkvo", "o+down", "v+o+down", "attention+mlp",
    "attention.o", "mlp.down", "experts.down", "text:", "vision:", "audio:", "text:attention+text:mlp",
    "vision:attention", "encoder:attention", "decoder:mlp", "attention@last:8", "(attention+mlp)@odd",
    "mlp@0,3,5", "experts@0-3", "all-linear@first:4", "all-linear - attention@0", "all-linear - vision:",
    "attention+experts@even",
)  # fmt: skip
FIELDS = ("rank", "target_modules", "target_parameters", "layers_to_transform", "exclude_modules")
BEYOND_PEFT = ("comes with them", "fused kernels", "input embedding", "hides the modules")
"""Why PEFT has no way to adapt some sets: half a packed attention, a blocklist, a wrapper in the way."""


@pytest.mark.parametrize("model_id", MODELS)
def test_emitted_targets_mean_the_sites_that_were_resolved(model_id: str) -> None:
    """resolve(emit(resolve(spec))) = resolve(spec), by our rules for every text and by PEFT for a sample."""
    model = build(MODELS[model_id].config).module
    inventory = Inventory(scan(model))
    random = Random(model_id)  # noqa: S311 - not for secrets
    sites = [site for site in inventory.graph.sites if site.adaptable]
    sets = {spec: _resolved(inventory, spec) for spec in SPECS}
    sets["at random"] = tuple(random.sample(sites, min(len(sites), random.choice([1, 5, 40]))))
    emitted = {spec: _emitted(inventory, wanted) for spec, wanted in sets.items() if wanted}
    for spec, settings in emitted.items():
        read = predict(inventory, settings).sites if settings else sets[spec]
        assert {site.parameter for site in read} == {site.parameter for site in sets[spec]}, spec
    said = sorted(spec for spec, settings in emitted.items() if settings)
    injected = INJECTED if model_id in FIRSTS.values() else 1
    for spec in random.sample(said, min(injected, len(said))):
        fields = {name: getattr(emitted[spec], name) for name in FIELDS}
        assert differences(model, inventory, fields) == [], spec


def _resolved(inventory: Inventory, spec: str) -> tuple[Site, ...]:
    """Return the sites of `spec`; none where the model has no such thing."""
    try:
        return resolve(inventory, spec)
    except (UnmatchedTarget, PeftRefusal):
        return ()


def _emitted(inventory: Inventory, wanted: Sequence[Site]) -> LoraSettings | None:
    """Return the settings for `wanted` at a rank that fits; None where PEFT itself stands in the way."""
    try:
        return replace(emit(inventory, wanted), rank=any_rank(inventory))
    except NotExpressible as error:
        if any(reason in error.reason for reason in BEYOND_PEFT):
            return None
        raise
