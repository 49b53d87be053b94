"""Rows for a stack of trials: the same batch once for each, and where its labels stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lora_probe.piloting.engine.loss import IGNORED, aligned_labels, model_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lora_probe.piloting.data.batches import Batch
    from lora_probe.piloting.records import Task

__all__ = ["Rows", "replicated"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """A batch as a model takes it, on its device."""

    inputs: dict[str, Any]
    targets: Tensor
    """(rows, positions), aligned with the logits that predict them."""
    labelled: Tensor
    """Indices of the N labelled positions, counted over the whole batch: (N,)."""

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return len(self.targets)

    @classmethod
    def of(cls, batch: Batch, model: nn.Module, task: Task, device: torch.device) -> Rows:
        """Bring a batch to the device."""
        targets = aligned_labels(batch.labels, task)
        inputs = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in model_inputs(model, batch).items()
        }
        labelled = (targets != IGNORED).flatten().nonzero().flatten()
        return cls(inputs=inputs, targets=targets.to(device), labelled=labelled.to(device))

    def stacked(self, trials: int) -> tuple[dict[str, Any], Tensor]:
        """Return the inputs of `trials` copies, one after the other, and all their labelled positions."""
        if trials == 1:
            return self.inputs, self.labelled
        inputs = {name: replicated(value, self.rows, trials) for name, value in self.inputs.items()}
        starts = torch.arange(trials, device=self.labelled.device) * self.targets.numel()
        return inputs, (starts[:, None] + self.labelled).flatten()

    def item_sums(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed nats of each row, (trials, rows), and its labelled tokens, (rows,).

        `losses` are those of the labelled positions: (trials, N).
        """
        nll = losses.new_zeros(len(losses), self.targets.numel())
        nll[:, self.labelled] = losses
        return nll.view(-1, *self.targets.shape).sum(2), (self.targets != IGNORED).sum(1)


def replicated(value: Any, rows: int, trials: int) -> Any:
    """Return a tensor that has a row for each item `trials` times over; anything else as it is."""
    if isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == rows:
        return value.repeat(trials, *[1] * (value.dim() - 1))
    return value
