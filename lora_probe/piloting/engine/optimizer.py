"""One AdamW for all trials of a pass: each with its own learning rate and its own clipping, on flat rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_probe.piloting.engine.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.piloting.engine.adapters import Adapters
    from lora_probe.piloting.records import Training

__all__ = ["Optimizer"]

_CLIP_EPSILON = 1e-6
"""What torch's `clip_grad_norm_` adds to the norm before it divides by it."""


class Optimizer:
    """torch's own fused AdamW over one parameter per trial and buffer; the moments live in the buffers."""

    def __init__(
        self, adapters: Adapters, peaks: Sequence[float], training: Training, device: torch.device
    ) -> None:
        self._adapters, self._peaks, self._training, self._device = adapters, peaks, training, device
        self._groups: dict[int, list[nn.Parameter]] = {}
        self._adamw: torch.optim.AdamW | None = None
        self._clock: list[Tensor] = []
        state: dict[Tensor, dict[str, Tensor]] = {}
        for place in range(len(peaks)):
            rows = []
            for buffer, row in adapters.rows(place):
                parameter = nn.Parameter(buffer.planes["value"][row])
                parameter.grad = buffer.planes["gradient"][row]
                clock = torch.zeros((), device=parameter.device)
                self._clock.append(clock)
                state[parameter] = {
                    "step": clock,
                    "exp_avg": buffer.planes["first"][row],
                    "exp_avg_sq": buffer.planes["second"][row],
                }
                rows.append(parameter)
            if rows:
                self._groups[place] = rows
        if self._groups:
            self._adamw = torch.optim.AdamW(
                [{"params": rows, "place": place} for place, rows in self._groups.items()],
                lr=0.0,
                betas=training.betas,
                eps=training.epsilon,
                weight_decay=training.weight_decay,
                fused=True,
            )
            self._adamw.state.update(state)

    def set_steps(self, taken: int) -> None:
        """Say how many steps the moments have behind them: what the bias correction divides by."""
        for clock in self._clock:
            clock.fill_(taken)

    def zero_gradients(self) -> None:
        """Set all gradients to zero; never to None, which would cut the views."""
        for buffer in self._adapters.buffers:
            buffer.planes["gradient"].zero_()

    def gradient_norms(self) -> Tensor:
        """Return the norm of each trial's whole gradient: (trials,)."""
        squares = torch.zeros(len(self._peaks), device=self._device)
        for buffer in self._adapters.buffers:
            norms = torch.linalg.vector_norm(buffer.planes["gradient"], dim=1)
            squares[buffer.start : buffer.stop] += norms.square().to(self._device)
        return squares.sqrt()

    def step(self, step: int, norms: Tensor) -> None:
        """Clip each trial by its own norm and update all that are not frozen; `step` counts from 0."""
        if self._adamw is None:
            return
        if self._training.clip > 0:
            factors = (self._training.clip / (norms + _CLIP_EPSILON)).clamp(max=1.0)
            for buffer in self._adapters.buffers:
                gradients = buffer.planes["gradient"]
                gradients.mul_(factors[buffer.start : buffer.stop, None].to(gradients.device))
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate(self._peaks[group["place"]], step, self._training)
        self._adamw.step()

    def freeze(self, place: int) -> None:
        """Leave a trial out of all further updates, and take what it has learned out of the model."""
        for parameter in self._groups.get(place, ()):
            parameter.grad = None
            parameter.detach().zero_()
