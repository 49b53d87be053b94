"""How many trials fit into memory: what one of them keeps for its backward pass, against what is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lora_probe.piloting.engine.stacked import StackedEngine
    from lora_probe.piloting.records import Trial

__all__ = ["kept_bytes", "trials_that_fit"]

_SHARE = 0.5
"""Of the free memory, for what passes keep; the rest is for what they compute with, and for others."""


def kept_bytes(engine: StackedEngine, trial: Trial) -> int:
    """Return the bytes that one training step of one trial keeps from its forward to its backward pass.

    Each storage counts once; the model's own weights do not. What a layer is given counts where gradient
    checkpointing keeps that alone.
    """
    weights = {each.untyped_storage().data_ptr() for each in engine.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def keep(_: nn.Module, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        for each in (*arguments, *named.values()):
            if isinstance(each, torch.Tensor):
                pack(each)

    layers = engine.lists if engine.plan.training.gradient_checkpointing else ()
    hooks = [engine.modules[path].register_forward_pre_hook(keep, with_kwargs=True) for path in layers]
    session = engine.start([trial])
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            session.train(0)
    finally:
        for hook in hooks:
            hook.remove()
    session.close()
    return sum(kept.values())


def trials_that_fit(engine: StackedEngine, trial: Trial) -> int:
    """Return how many trials like this one can share the memory that is free now; 1 at least.

    Raises OutOfMemory where not even one fits.
    """
    return max(1, int(_SHARE * _free_bytes(engine.device) / max(1, kept_bytes(engine, trial))))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # type: ignore[import-untyped]  # no dependency of ours: accelerate brings it

    available: int = psutil.virtual_memory().available
    return available
