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
    from lora_probe.graph import ModuleGraph

__all__ = ["write"]

_SEQUENCE_TOWERS = frozenset({"encoder", "decoder", "shared"})


def write(plan: Plan) -> str:
    """Return the text of an `adapter_config.json`."""
    settings = plan.settings
    document = {
        "peft_type": "LORA",
        "base_model_name_or_path": plan.graph.model,
        "revision": plan.graph.revision,
        "task_type": settings.task_type or _task(plan.graph),
        "inference_mode": False,
        "lora_dropout": settings.dropout,
        "bias": settings.bias,
        "use_dora": settings.use_dora,
        "use_rslora": settings.use_rslora,
        **settings.to_lora_config(),
    }
    return json.dumps(document, indent=2) + "\n"


def _task(graph: ModuleGraph) -> str | None:
    """Return the task of a model that writes text, None for any other.

    Classifiers get none: their tasks train a head in full, which has to be asked for. Neither do models that
    write what they hear: PEFT's class for sequences hands them `input_ids`, which they do not take.
    """
    towers = {site.tower for site in graph.sites if site.layer is not None}
    if graph.architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "CAUSAL_LM"
    if not graph.architecture.endswith(("ForConditionalGeneration", "MTModel")):
        return None
    if "text" in towers:
        return "CAUSAL_LM"
    reads_text = ".decoder." not in f".{graph.input_embedding or 'decoder.'}"
    return "SEQ_2_SEQ_LM" if reads_text and towers <= _SEQUENCE_TOWERS else None
