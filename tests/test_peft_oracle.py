"""PEFT itself is the judge: random settings on every model type that people fine-tune with LoRA."""

from __future__ import annotations

import os
from itertools import chain

import pytest
from transformers.models.auto import modeling_auto

from lora_probe import scan
from lora_probe.peft_rules import Inventory
from tests.census import models
from tests.oracle.cases import cases
from tests.oracle.comparison import differences

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

CASES = int(os.environ.get("ORACLE_CASES", "7"))
"""Cases a model type; `make oracle-long` asks for ten times as many."""
SEED = os.environ.get("ORACLE_SEED", "1")
TYPES = sorted(
    set(
        chain(
            modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        )
    )
)


@pytest.mark.parametrize("model_type", TYPES)
def test_predictions_are_what_peft_does(model_type: str) -> None:
    """What is adapted, each trained tensor's name and shape, the sum and each refusal agree with PEFT."""
    reasons: dict[str, str] = {}
    for _, model in models([model_type], reasons=reasons):
        inventory = Inventory(scan(model))
        found = {
            str(fields): faults
            for fields in cases(inventory, seed=f"{SEED}/{model_type}", count=CASES)
            if (faults := differences(model, inventory, fields))
        }
        assert not found
    if reasons:
        pytest.skip(reasons[model_type])  # the census says which types may be missing, and why


@pytest.mark.parametrize("model_type", ["diffusion_gemma", "seamless_m4t"])
def test_an_embedding_that_is_tied_to_itself_is_copied_once(model_type: str) -> None:
    """Where the input embedding counts among what is tied to it, all others share its own copy."""
    for _, model in models([model_type], reasons={}):
        inventory = Inventory(scan(model))
        assert inventory.graph.input_embedding in inventory.tied_to_embedding
        for saved in (("embed_tokens",), ("lm_head", "embed_tokens"), ("lm_head",)):
            fields = {"target_modules": ("o_proj", "out_proj"), "modules_to_save": saved}
            assert differences(model, inventory, {**fields, "ensure_weight_tying": True}) == []
