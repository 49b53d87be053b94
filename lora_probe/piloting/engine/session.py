"""Trials that are trained side by side on one frozen model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from lora_probe.piloting.data.batches import batches, evaluation_batches
from lora_probe.piloting.engine.adapters import Adapters
from lora_probe.piloting.engine.arrangement import arranged
from lora_probe.piloting.engine.memory import memory_guard
from lora_probe.piloting.engine.optimizer import Optimizer
from lora_probe.piloting.engine.passes import StackedPass
from lora_probe.piloting.engine.prefix import SharedPrefix
from lora_probe.piloting.engine.protocols import StepReport
from lora_probe.piloting.engine.saving import save_adapter
from lora_probe.piloting.engine.stack import Stack
from lora_probe.piloting.records import Evaluated, Failed, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from lora_probe.piloting.engine.sequences import Rows
    from lora_probe.piloting.engine.stacked import StackedEngine
    from lora_probe.piloting.records import Split, Trial

__all__ = ["StackedSession"]

_EVALUATED_ROWS = 8
"""Rows of a pass that evaluates, at least: without gradients there is room, and single rows are slow."""


class StackedSession:
    """Some trials in one stack; `trials` is in the caller's order, places in the stack are our own."""

    def __init__(self, engine: StackedEngine, trials: Sequence[Trial]) -> None:
        self.trials = tuple(trials)
        self.step = 0
        self._engine, self._plan = engine, engine.plan
        training = self._plan.training
        order = arranged([frozenset(self._paths(trial)) for trial in self.trials])
        self._stacked = tuple(self.trials[index] for index in order)
        self._place = {trial: place for place, trial in enumerate(self._stacked)}
        self._frozen: set[Trial] = set()
        seeds = [trial.seed for trial in self._stacked]
        self._adapters = Adapters(engine.dimensions, engine.shapes(self._stacked), seeds)
        peaks = [trial.learning_rate for trial in self._stacked]
        self._optimizer = Optimizer(self._adapters, peaks, training, engine.device)
        self._idle = {(trial, path) for trial in self.trials for path in self._paths(trial)}
        """Adapters that no step has given a gradient."""
        adapted = {path for trial in self.trials for path in self._paths(trial)}
        below, head = engine.frozen_layers(adapted), engine.head_use
        self._stack = Stack(
            engine.modules, self._adapters, seeds, dropout=training.dropout, unseen=engine.unseen
        )
        self._pass = StackedPass(
            engine.model,
            self._stack,
            head=head,
            norms=engine.norms,
            recomputed=[engine.modules[path] for path in engine.lists]
            if training.gradient_checkpointing
            else (),
        )
        self._share(below)

    def train(self, step: int) -> StepReport:
        """Take one optimizer step with every trial; see `Session`."""
        if step != self.step:
            raise ValueError(f"the next step is {self.step}, not {step}")
        engine = self._engine
        with memory_guard(len(self.trials), engine.device), self._pass:
            rows = [engine.rows(batch) for batch in batches(engine.data, self._plan.training, step=step)]
            tokens = sum(len(each.labelled) for each in rows)
            losses = torch.zeros(len(self.trials), device=engine.device)
            self._optimizer.zero_gradients()
            for micro_batch, each in enumerate(rows):
                if len(each.labelled):
                    losses += self._backward(each, tokens, (step, micro_batch))
            norms = self._optimizer.gradient_norms()
            measured = torch.stack([losses, norms]).tolist()
            failed = self._freeze_diverged(measured[0], measured[1], step)
            self._note_gradients()
            self._optimizer.step(step, norms)
        self.step += 1
        nothing = {self._place[trial] for trial in self._frozen}
        told = [
            tuple(
                math.nan if place in nothing else values[place] for place in map(self._place.get, self.trials)
            )
            for values in measured
        ]
        return StepReport(step=step, losses=told[0], gradient_norms=told[1], tokens=tokens, failed=failed)

    def evaluate(self, split: Split) -> list[Evaluated]:
        """Measure every trial that has not diverged; before the first step, one pass serves all."""
        shared = self.step == 0
        trials = 1 if shared else len(self.trials)
        counts_right = self._plan.protocol.accuracy
        size = max(self._plan.training.batch_size, math.ceil(_EVALUATED_ROWS / trials))
        items = len(self._engine.data.part(split))
        nll = torch.zeros(trials, items, dtype=torch.float64)
        tokens = torch.zeros(items, dtype=torch.int64)
        right = torch.zeros(trials, items, dtype=torch.int64)
        with torch.no_grad(), memory_guard(trials, self._engine.device), self._pass:
            for batch in evaluation_batches(self._engine.data, split, batch_size=size):
                rows, index = self._engine.rows(batch), torch.tensor(batch.items)
                losses, hits = self._pass.measured(rows, base=shared, hits=counts_right)
                sums, counts = rows.item_sums(losses)
                nll[:, index], tokens[index] = sums.double().cpu(), counts.cpu()
                if hits is not None:
                    right[:, index] = rows.item_sums(hits.float())[0].long().cpu()
        counted, correct = tuple(tokens.tolist()), [tuple(each) for each in right.tolist()]
        measured = [tuple(each) for each in nll.tolist()]
        return [
            Evaluated(
                trial=trial,
                step=self.step,
                split=split,
                nll=measured[0 if shared else self._place[trial]],
                tokens=counted,
                correct=correct[0 if shared else self._place[trial]] if counts_right else None,
            )
            for trial in self.trials
            if trial not in self._frozen
        ]

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that the next step depends on, trial by trial; see `Session`."""
        found: dict[str, Tensor] = {}
        for trial, place in self._place.items():
            found[f"{trial.id}/step"] = torch.tensor(self.step)
            found[f"{trial.id}/diverged"] = torch.tensor(trial in self._frozen)
            for name, tensor in self._adapters.of_trial(place).items():
                found[f"{trial.id}/{name}"] = tensor.detach().to("cpu", copy=True).contiguous()
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned; see `Session`."""
        steps = {int(_of(state, f"{trial.id}/step")) for trial in self.trials}
        if len(steps) != 1:
            raise ValueError(f"the trials stand at different steps: {', '.join(map(str, sorted(steps)))}")
        for trial, place in self._place.items():
            for name, tensor in self._adapters.of_trial(place).items():
                saved = _of(state, f"{trial.id}/{name}")
                if saved.shape != tensor.shape:
                    raise ValueError(f"{trial.id}/{name} is {tuple(saved.shape)}, not {tuple(tensor.shape)}")
                tensor.copy_(saved)
        self.step = steps.pop()
        self._optimizer.set_steps(self.step)
        self._idle = {(trial, path) for trial in self.trials for path in self._paths(trial)}
        for trial in self.trials:
            if _of(state, f"{trial.id}/diverged"):
                self._freeze(trial)

    def save_adapter(self, trial: Trial, folder: Path) -> None:
        """Write a trial's adapter as PEFT keeps it; see `Session`."""
        tensors = self._adapters.of_trial(self._place[trial])
        matrices = {
            path: (tensors[f"value.A/{path}"], tensors[f"value.B/{path}"].T) for path in self._paths(trial)
        }
        save_adapter(folder, self._engine.candidates[trial.candidate], self._plan, matrices)

    def dead(self) -> dict[Trial, tuple[str, ...]]:
        """Return the adapters that no step since start or load has given a gradient."""
        return {
            trial: tuple(path for path in self._paths(trial) if (trial, path) in self._idle)
            for trial in self.trials
        }

    def close(self) -> None:
        """Do nothing: between steps the model is as it was, and nothing outlives the session."""

    def _paths(self, trial: Trial) -> tuple[str, ...]:
        return self._engine.candidates[trial.candidate].paths

    def _backward(self, rows: Rows, tokens: int, moment: tuple[int, int]) -> Tensor:
        """Add one micro-batch's gradients; return its share of each trial's loss, by place: (trials,)."""
        self._stack.moment, self._stack.training = moment, True
        try:
            losses = self._pass.token_losses(rows).sum(1) / tokens
            if losses.requires_grad:
                losses.sum().backward()  # type: ignore[no-untyped-call]
        finally:
            self._stack.training = False
        return losses.detach()

    def _freeze_diverged(self, losses: list[float], norms: list[float], step: int) -> tuple[Failed, ...]:
        failed = []
        for trial in self.trials:
            place = self._place[trial]
            if trial in self._frozen or (math.isfinite(losses[place]) and math.isfinite(norms[place])):
                continue
            what = "loss" if not math.isfinite(losses[place]) else "gradient"
            reason = f"the {what} became infinite or no number in step {step + 1}"
            failed.append(Failed(trial=trial, step=step, failure=Failure.DIVERGED, reason=reason))
            self._freeze(trial)
        return tuple(failed)

    def _freeze(self, trial: Trial) -> None:
        """Let a trial stand still as the untouched base, so that nothing of it can reach the others."""
        self._frozen.add(trial)
        self._optimizer.freeze(self._place[trial])

    def _note_gradients(self) -> None:
        """Strike off the adapters that have got a gradient; soon nothing is left to look at."""
        if not self._idle:
            return
        idle = list(self._idle)
        largest = []
        for trial, path in idle:
            slot = self._adapters.slots[path]
            at = self._place[trial] - slot.start
            largest.append(
                torch.maximum(slot.gradient.a[at].abs().max(), slot.gradient.b[at].abs().max()).cpu()
            )
        moved = torch.stack(largest).tolist()
        self._idle.difference_update(each for each, size in zip(idle, moved, strict=True) if size != 0)

    def _share(self, layers: tuple[str, ...]) -> None:
        """Compute the layers below the first adapted one once for all trials, where that changes no loss."""
        if not layers or len(self.trials) == 1 or not self._engine.shareable.get(layers, True):
            return
        self._pass.share(SharedPrefix(self._engine.modules, layers, self._engine.lists))
        if layers not in self._engine.shareable:
            with self._pass:
                self._engine.shareable[layers] = self._pass.sharing_holds(self._engine.sample)
        if not self._engine.shareable[layers]:
            self._pass.share(None)


def _of(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"the checkpoint has no {name}")
    return state[name]
