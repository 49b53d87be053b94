"""PEFT's rules, without PEFT: what `get_peft_model` will train for given settings, or why it will raise.

Pure: works on a module graph, imports neither torch nor peft. PEFT 0.21 with transformers 5 is the
reference; the tests compare every rule with what it does on the meta device.
"""

from __future__ import annotations

from lora_probe.peft_rules.inventory import Inventory, Parameter
from lora_probe.peft_rules.prediction import predict
from lora_probe.peft_rules.records import Adapter, Prediction, SavedCopy, TokenRows
from lora_probe.peft_rules.settings import ALL_LINEAR, LoraSettings

__all__ = [
    "ALL_LINEAR",
    "Adapter",
    "Inventory",
    "LoraSettings",
    "Parameter",
    "Prediction",
    "SavedCopy",
    "TokenRows",
    "predict",
]
