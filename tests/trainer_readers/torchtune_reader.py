"""Build torchtune's models from exported arguments with its own `instantiate`, on the meta device."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from tests.trainer_readers.adapted import answer_cases


def answer(case: dict[str, str]) -> dict[str, Any]:
    """Return the layers that `builder` gives adapters, by their names in torchtune: class, rank, factor."""
    instantiate, peft = import_module("torchtune.config").instantiate, import_module("torchtune.modules.peft")
    fields = import_module("omegaconf").OmegaConf.create(case["text"]).model
    fields["_component_"] = case["builder"]
    import_module(case["builder"].rpartition(".")[0])
    with torch.device("meta"):
        model = instantiate(fields)
    adapted = {}
    for path, layer in model.named_modules():
        if isinstance(layer, (peft.LoRALinear, peft.DoRALinear)):
            factor = layer.scaling if isinstance(layer, peft.DoRALinear) else layer.alpha / layer.rank
            adapted[path] = (type(layer).__name__, layer.lora_a.out_features, factor)
    return adapted


answer_cases(answer)
