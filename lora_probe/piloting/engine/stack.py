"""A frozen model whose adapted layers serve a whole stack of trials at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lora_probe.piloting.engine.delta import StackedLinear
from lora_probe.piloting.engine.initial import dropout_mask
from lora_probe.piloting.engine.patches import Patches
from lora_probe.piloting.errors import NotStackable
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from torch import Tensor, nn

    from lora_probe.piloting.engine.adapters import Adapters, Slot

__all__ = ["Stack", "is_transposed"]


class Stack:
    """The adapted layers of a model, replaced from `install` to `remove`.

    Where `active`, every adapted layer takes its input as `trials` equal runs of rows, one for each trial;
    else it is the frozen layer that it was.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        adapters: Adapters,
        seeds: Sequence[int],
        *,
        dropout: float,
        unseen: Container[str] = (),
    ) -> None:
        """Take modules by path, their adapters, and those paths of which nobody knows who gets which rows."""
        self.trials, self.active = len(seeds), True
        self.moment = (0, 0)
        """Step and micro-batch: what the dropout masks are keyed by."""
        self._seeds, self._dropout = seeds, dropout
        self._patches = Patches()
        self._modules, self._slots, self._unseen = modules, adapters.slots, unseen
        self.training = False
        self._triggers: dict[torch.device, Tensor] = {}

    def install(self) -> None:
        """Replace the layers."""
        for path, slot in self._slots.items():
            self._replace(self._modules[path], slot)

    def remove(self) -> None:
        """Give every layer back as it was."""
        self._patches.undo()

    def _replace(self, module: nn.Module, slot: Slot) -> None:
        transposed, unseen = is_transposed(module), slot.path in self._unseen
        device = slot.value.a.device
        trigger = self._triggers.setdefault(device, torch.zeros((), device=device, requires_grad=True))

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def stacked(*arguments: Tensor, **named: Tensor) -> Any:
                (x,) = (*arguments, *named.values())  # some models call it by name
                if not self.active:
                    return forward(x)
                if unseen:
                    raise NotStackable(reason=f"{printable(slot.path)} runs for some inputs only")
                weight: Any = module.weight
                bias: Any = module.bias
                weight = weight.t() if transposed else weight
                mask = self._mask(x, slot) if self.training and self._dropout else None
                apply: Any = StackedLinear.apply
                return apply(x, trigger, weight, bias, slot, self.trials, mask)

            return stacked

        self._patches.replace(module, make)

    def _mask(self, x: Tensor, slot: Slot) -> Tensor:
        """Return the dropout masks of a slice: (slice, rows, in_features)."""
        step, micro_batch = self.moment
        shape = (x.numel() // x.shape[-1] // self.trials, x.shape[-1])
        masks = [
            dropout_mask(
                slot.path,
                seed=seed,
                step=step,
                micro_batch=micro_batch,
                shape=shape,
                probability=self._dropout,
                device=x.device,
                dtype=x.dtype,
            )
            for seed in self._seeds[slot.start : slot.stop]
        ]
        return torch.stack(masks)


def is_transposed(module: nn.Module) -> bool:
    """Tell whether a layer keeps its weight as (in, out), as GPT-2's Conv1D does."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)
