"""PEFT's own state dict is the judge of what an adapter's file holds, for random settings on real types."""

from __future__ import annotations

import os

import pytest
from peft import get_peft_model_state_dict

from lora_probe import scan
from lora_probe.budgeting.count import trainable_tensors
from lora_probe.budgeting.stored import stored_tensors
from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules import Inventory, LoraSettings, predict
from tests.census import models
from tests.oracle.cases import cases
from tests.oracle.truth import injected

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

CASES = 2 * int(os.environ.get("ORACLE_CASES", "7"))
SEED = os.environ.get("ORACLE_SEED", "1")
TYPES = (
    "bart", "bert", "blip-2", "camembert", "clip", "cohere2_vision", "deepseek_v3", "electra", "falcon",
    "gemma3", "gpt2", "gpt_oss", "granitemoehybrid", "idefics3", "llama4", "mixtral", "opt", "phi",
    "qwen2_5_vl", "qwen3_moe", "roberta", "siglip", "t5", "whisper", "xlm-roberta",
)  # fmt: skip
"""Types that differ in what is stored: tied heads, biases, experts, packed attention, convolutions."""


@pytest.mark.parametrize("model_type", TYPES)
def test_the_file_holds_what_peft_stores(model_type: str) -> None:
    """Names and shapes of an adapter's file are those of PEFT's state dict, whatever the settings."""
    ((_, model),) = models([model_type])
    inventory = Inventory(scan(model))
    compared = 0
    for fields in cases(inventory, seed=f"file/{SEED}/{model_type}", count=CASES):
        try:
            prediction = predict(inventory, LoraSettings(**fields))
        except PeftRefusal:
            continue  # that PEFT refuses it, too, is another test's matter
        trained = trainable_tensors(prediction, inventory)
        ours = {
            each.name: each.shape for each in stored_tensors(trained, prediction, inventory, dtype="float32")
        }
        with injected(model, fields) as (peft_model, _):
            theirs = {name: tuple(each.shape) for name, each in get_peft_model_state_dict(peft_model).items()}
        assert ours == theirs, fields
        compared += 1
    assert compared
