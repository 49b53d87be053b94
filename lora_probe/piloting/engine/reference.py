"""PEFT itself, one trial after another: what stacking is measured against, and what it leaves to PEFT.

DoRA, quantized bases, experts as bare parameters, embeddings, modules that are trained in full, and full
fine-tuning: whatever a `LoraConfig` says is trained here by PEFT's own layers and torch's own AdamW. Only
what pilots have in common is replaced: where A starts, the dropout masks, the loss, the schedule, the data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from lora_probe.piloting.data.batches import batches, evaluation_batches
from lora_probe.piloting.engine.loss import IGNORED, aligned_labels, item_hits, item_losses, model_inputs
from lora_probe.piloting.engine.memory import memory_guard
from lora_probe.piloting.engine.protocols import StepReport
from lora_probe.piloting.engine.schedule import learning_rate
from lora_probe.piloting.engine.wrapping import Adapted, adapt
from lora_probe.piloting.records import Evaluated, Failed, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from lora_probe.piloting.data import Batch, PilotData
    from lora_probe.piloting.records import Plan, Split, Trial

__all__ = ["ReferenceEngine"]

_EVALUATED_ROWS = 8
"""Rows of a pass that evaluates, at least: without gradients there is room, and single rows are slow."""


class ReferenceEngine:
    """Trains one trial at a time on `model`, which is given back as it was after each."""

    name = "reference"
    choice = "reference"
    size = 1

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        data: PilotData,
        *,
        reason: str = "PEFT itself, one trial after another",
    ) -> None:
        self.plan, self.model, self.data, self.reason = plan, model, data, reason
        self.candidates = {candidate.name: candidate for candidate in plan.candidates}
        self.device = next(model.parameters()).device

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Put every trial into a wave of its own."""
        return tuple((trial,) for trial in trials)

    def start(self, trials: Sequence[Trial]) -> ReferenceSession:
        """Adapt the model for one trial.

        Raises:
            ValueError: there are more; or PEFT refuses the candidate.
            OutOfMemory: not even the adapter fits.

        """
        if len(trials) != 1:
            raise ValueError(f"the reference engine trains one trial at a time, got {len(trials)}")
        with memory_guard(1, self.device):
            return ReferenceSession(self, trials[0])


class ReferenceSession:
    """One trial; see `Session`."""

    def __init__(self, engine: ReferenceEngine, trial: Trial) -> None:
        self.trials: tuple[Trial, ...] = (trial,)
        self.step = 0
        self._trial, self._engine, self._diverged = trial, engine, False
        self._adapted: Adapted = adapt(engine.model, engine.candidates[trial.candidate], trial, engine.plan)
        training = engine.plan.training
        self._optimizer = torch.optim.AdamW(
            list(self._adapted.trained.values()) or [torch.zeros(0, requires_grad=True)],
            lr=0.0,
            betas=training.betas,
            eps=training.epsilon,
            weight_decay=training.weight_decay,
        )
        self._idle = set(self._adapted.adapters)

    def train(self, step: int) -> StepReport:
        """Take one optimizer step; see `Session`."""
        if step != self.step:
            raise ValueError(f"the next step is {self.step}, not {step}")
        engine, training = self._engine, self._engine.plan.training
        with memory_guard(1, engine.device):
            micro_batches = batches(engine.data, training, step=step)
            task = engine.plan.data.task
            tokens = sum(int((aligned_labels(each.labels, task) != IGNORED).sum()) for each in micro_batches)
            if self._diverged:
                self.step += 1
                return self._report(step, math.nan, math.nan, tokens)
            loss = sum(self._backward(each, tokens, (step, at)) for at, each in enumerate(micro_batches))
            norm = self._clip()
            self._idle = {path for path in self._idle if self._adapted.is_idle(path)}
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._diverged = True
                self._optimizer.zero_grad()
                self.step += 1
                what = "gradient" if math.isfinite(loss) else "loss"
                reason = f"the {what} became infinite or no number in step {step + 1}"
                failed = Failed(trial=self._trial, step=step, failure=Failure.DIVERGED, reason=reason)
                return self._report(step, loss, norm, tokens, failed)
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate(self._trial.learning_rate, step, training)
            self._optimizer.step()
            self._optimizer.zero_grad()
        self.step += 1
        return self._report(step, loss, norm, tokens)

    def evaluate(self, split: Split) -> list[Evaluated]:
        """Measure the trial on every item of a part; see `Session`."""
        if self._diverged:
            return []
        engine = self._engine
        size = max(engine.plan.training.batch_size, _EVALUATED_ROWS)
        items = len(engine.data.part(split))
        nll, tokens, right = [0.0] * items, [0] * items, [0] * items
        counts_right = engine.plan.protocol.accuracy
        with torch.no_grad(), memory_guard(1, engine.device):
            for batch in evaluation_batches(engine.data, split, batch_size=size):
                logits = self._logits(batch)
                labels, task = batch.labels.to(logits.device), engine.plan.data.task
                sums, counts = item_losses(logits, labels, task)
                hits = item_hits(logits, labels, task) if counts_right else torch.zeros_like(counts)
                found = zip(batch.items, sums.tolist(), counts.tolist(), hits.tolist(), strict=True)
                for item, *values in found:
                    nll[item], tokens[item], right[item] = values
        measured = Evaluated(
            trial=self._trial,
            step=self.step,
            split=split,
            nll=tuple(nll),
            tokens=tuple(tokens),
            correct=tuple(right) if counts_right else None,
        )
        return [measured]

    def state(self) -> dict[str, Tensor]:
        """Return copies of the trained tensors and of AdamW's moments; see `Session`."""
        found = {"step": torch.tensor(self.step), "diverged": torch.tensor(self._diverged)}
        for name, parameter in self._adapted.trained.items():
            found[f"value/{name}"] = parameter.detach()
            for key, value in self._optimizer.state.get(parameter, {}).items():
                found[f"{key}/{name}"] = value.detach()
        return {f"{self._trial.id}/{name}": tensor.to("cpu", copy=True) for name, tensor in found.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned; see `Session`."""
        prefix = f"{self._trial.id}/"
        own = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
        with torch.no_grad():
            for name, parameter in self._adapted.trained.items():
                saved = own.get(f"value/{name}")
                if saved is None or saved.shape != parameter.shape:
                    raise ValueError(f"the state of {self._trial.id} does not hold {name} in its shape")
                parameter.copy_(saved)
                moments = {
                    key: own[f"{key}/{name}"].to("cpu" if key == "step" else parameter.device, copy=True)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}/{name}" in own
                }
                if moments:
                    self._optimizer.state[parameter] = moments
        self.step, self._diverged = int(own["step"]), bool(own["diverged"])
        self._idle = set(self._adapted.adapters)

    def save_adapter(self, trial: Trial, folder: Path) -> None:
        """Let PEFT write its checkpoint; see `Session`."""
        if trial != self._trial:
            raise ValueError(f"{trial.id} is not trained here")
        self._adapted.save(folder, self._engine.plan)

    def dead(self) -> dict[Trial, tuple[str, ...]]:
        """Return the adapters that no step since start or load has given a gradient."""
        return {self._trial: tuple(path for path in self._adapted.adapters if path in self._idle)}

    def close(self) -> None:
        """Give the model back as it was."""
        self._adapted.restore()

    def _backward(self, batch: Batch, tokens: int, moment: tuple[int, int]) -> float:
        """Add one micro-batch's gradients; return its share of the step's loss."""
        with self._adapted.training(*moment):
            sums, _ = self._losses(batch)
            loss = sums.sum() / max(1, tokens)  # a step without any label moves nothing but the moments
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return nats and labelled tokens of each row: (B,), (B,)."""
        logits = self._logits(batch)
        return item_losses(logits, batch.labels.to(logits.device), self._engine.plan.data.task)

    def _logits(self, batch: Batch) -> Tensor:
        """Return the model's whole output: (B, T, V), or (B, classes)."""
        engine = self._engine
        inputs = {
            name: value.to(engine.device) if isinstance(value, torch.Tensor) else value
            for name, value in model_inputs(engine.model, batch).items()
        }
        logits: Tensor = engine.model(**inputs).logits
        return logits

    def _clip(self) -> float:
        """Clip the gradient where the plan says so; return its norm before."""
        gradients = [each.grad for each in self._adapted.trained.values() if each.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        clip = self._engine.plan.training.clip
        if clip > 0 and gradients:
            torch.nn.utils.clip_grads_with_norm_(self._adapted.trained.values(), clip, norm)
        return float(norm)

    def _report(self, step: int, loss: float, norm: float, tokens: int, *failed: Failed) -> StepReport:
        return StepReport(step=step, losses=(loss,), gradient_norms=(norm,), tokens=tokens, failed=failed)
