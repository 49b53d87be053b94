"""PEFT: `adapter_config.json`, as `LoraConfig.from_pretrained` and `save_pretrained` have it.

Source: `peft/config.py` and `peft/tuners/lora/config.py` of PEFT 0.21. PEFT can be told whatever it can do,
so that nothing is refused here; fields that are left out have PEFT's defaults. Where no task is asked for,
the one follows from the model that changes nothing of what is trained, but gives `get_peft_model` and
`AutoPeftModelFor…` the class that people expect.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.exporting.plan import Plan

__all__ = ["write"]


def write(plan: Plan) -> str:
    """Return the text of an `adapter_config.json`."""
    settings = plan.settings
    document = {
        "peft_type": "LORA",
        "base_model_name_or_path": plan.graph.model,
        "revision": plan.graph.revision,
        "task_type": plan.task,
        "inference_mode": False,
        "lora_dropout": settings.dropout,
        "bias": settings.bias,
        "use_dora": settings.use_dora,
        "use_rslora": settings.use_rslora,
        **settings.to_lora_config(),
    }
    return json.dumps(document, indent=2) + "\n"
