"""The task of PEFT that follows from a model, where nobody says one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph

__all__ = ["task_of"]

_SEQUENCE_TOWERS = frozenset({"encoder", "decoder", "shared"})


def task_of(graph: ModuleGraph) -> str | None:
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
