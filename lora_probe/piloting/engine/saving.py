"""A trial's adapter as PEFT keeps it on disk."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.records import Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from lora_probe.piloting.records import Candidate, Plan

__all__ = ["lora_arguments", "save_adapter"]

_TASKS = {
    Task.CAUSAL_LM: "CAUSAL_LM",
    Task.SEQ2SEQ: "SEQ_2_SEQ_LM",
    Task.SEQUENCE_CLASSIFICATION: "SEQ_CLS",
    Task.TOKEN_CLASSIFICATION: "TOKEN_CLS",
}
"""What PEFT calls a task; it has no name for masked language models."""


def lora_arguments(candidate: Candidate, plan: Plan) -> dict[str, Any]:
    """Return the arguments of the `LoraConfig` that trains the same as the candidate does."""
    training = plan.training
    return {
        "task_type": _TASKS.get(plan.data.task),
        "r": candidate.rank,
        "lora_alpha": candidate.alpha,
        "target_modules": list(candidate.paths),
        **copy.deepcopy(dict(candidate.lora)),  # PEFT writes into the lists that it is given
        "lora_dropout": training.dropout,
        "use_rslora": training.use_rslora or bool(candidate.lora.get("use_rslora")),
        "use_dora": training.use_dora or bool(candidate.lora.get("use_dora")),
    }


def save_adapter(
    folder: Path, candidate: Candidate, plan: Plan, matrices: Mapping[str, tuple[Tensor, Tensor]]
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; creates the folder.

    `matrices` holds A (rank, in_features) and B (out_features, rank) by path.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        **lora_arguments(candidate, plan),
        base_model_name_or_path=plan.model.model,
        revision=plan.model.revision,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    tensors = {}
    for path, (a, b) in matrices.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = a.detach().cpu().contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = b.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
