"""The stacked engine: one frozen base, and as many trials in a pass as share it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from lora_probe.piloting.data.batches import batches
from lora_probe.piloting.engine.adapters import Dimensions, Shape
from lora_probe.piloting.engine.head import HeadUse, head_use
from lora_probe.piloting.engine.memory import memory_guard
from lora_probe.piloting.engine.norms import plain_norms
from lora_probe.piloting.engine.observation import Observation, observe, probe_inputs
from lora_probe.piloting.engine.prefix import frozen_layers, layer_lists
from lora_probe.piloting.engine.sequences import Rows, replicated
from lora_probe.piloting.engine.session import StackedSession
from lora_probe.piloting.engine.stack import is_transposed
from lora_probe.piloting.engine.support import misplaced_rows, unstackable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from lora_probe.piloting.data.batches import Batch
    from lora_probe.piloting.data.examples import PilotData
    from lora_probe.piloting.records import Candidate, Plan, Trial

__all__ = ["StackedEngine"]


class StackedEngine:
    """Trials side by side on one frozen model; see `Engine`.

    The base runs as in evaluation (no dropout of its own), so that trials that see the same data stay paired.
    """

    name = "stacked"

    def __init__(self, plan: Plan, model: nn.Module, data: PilotData) -> None:
        self.plan, self.model, self.data = plan, model, data
        self.candidates: dict[str, Candidate] = {candidate.name: candidate for candidate in plan.candidates}
        self.device = next(model.parameters()).device
        self.shareable: dict[tuple[str, ...], bool] = {}
        """Layers -> whether computing them once for all trials changes nothing; filled at first use."""
        self.wave: int | None = None
        """Trials that fit at once, where that has been found out."""
        model.requires_grad_(requires_grad=False)
        model.eval()

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Every module of the model by path."""
        return dict(self.model.named_modules())

    @cached_property
    def lists(self) -> dict[str, str]:
        """Every layer of the model -> the list that it belongs to."""
        return layer_lists(self.model)

    @cached_property
    def dimensions(self) -> dict[str, Dimensions]:
        """Features and device of every module that can be adapted in a stack and is."""
        found = {}
        for path in self._adapted:
            module = self.modules[path]
            weight: Any = module.weight
            out_features, in_features = reversed(weight.shape) if is_transposed(module) else weight.shape
            found[path] = Dimensions(in_features=in_features, out_features=out_features, device=weight.device)
        return found

    @cached_property
    def alone(self) -> dict[str, str]:
        """The candidates that cannot be stacked, each with the reason: one sentence.

        What a configuration says is looked at first; then one small forward shows whether every adapted
        module is given the rows of one trial after those of the other.
        """
        found = {}
        for name, candidate in self.candidates.items():
            reason = self._by_nature[name] or misplaced_rows(*self._observed, candidate.paths)
            if reason is not None:
                found[name] = reason
        return found

    def rows(self, batch: Batch) -> Rows:
        """Bring a batch to the device."""
        return Rows.of(batch, self.model, self.data.facts.task, self.device)

    def shapes(self, trials: Sequence[Trial]) -> dict[str, dict[int, Shape]]:
        """Return what adapts each module: by path, in the order of the model, then by place in `trials`."""
        found: dict[str, dict[int, Shape]] = {path: {} for path in self._adapted}
        for place, trial in enumerate(trials):
            candidate = self.candidates[trial.candidate]
            root = self.plan.training.use_rslora or candidate.lora.get("use_rslora")
            for path in candidate.paths:
                scale = candidate.alpha / (math.sqrt(candidate.rank) if root else candidate.rank)
                found[path][place] = Shape(rank=candidate.rank, scale=float(scale))
        return {path: by_place for path, by_place in found.items() if by_place}

    def frozen_layers(self, adapted: set[str]) -> tuple[str, ...]:
        """Return the layers that run before anything of `adapted` does."""
        return frozen_layers(self._observed[0].called, adapted)

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Divide trials into groups of the largest size that the plan, or memory, allows."""
        size = self.wave or self.plan.wave or max(1, len(trials))
        return tuple(tuple(trials[start : start + size]) for start in range(0, len(trials), size))

    def start(self, trials: Sequence[Trial]) -> StackedSession:
        """Set up trials at step 0; see `Engine`."""
        with memory_guard(len(trials), self.device):
            return StackedSession(self, trials)

    @cached_property
    def norms(self) -> tuple[nn.Module, ...]:
        """The norms that can be computed as frozen ones."""
        return plain_norms(self.model)

    @cached_property
    def head_use(self) -> HeadUse:
        """How much of the logits has to be computed at a time."""
        rows = self.sample
        with memory_guard(1, self.device):
            return head_use(
                self.model, rows.inputs, rows.labelled, rows.targets.numel(), adapted=self.dimensions
            )

    @cached_property
    def sample(self) -> Rows:
        """The first micro-batch that has a label: what the model is tried out with."""
        training = self.plan.training
        every = (batch for step in range(training.steps) for batch in batches(self.data, training, step=step))
        labelled = (rows for rows in map(self.rows, every) if len(rows.labelled))
        return next(labelled, None) or self.rows(batches(self.data, training, step=0)[0])

    @cached_property
    def unseen(self) -> frozenset[str]:
        """Modules that are adapted, but that the forward which shows who gets which rows did not enter."""
        return frozenset(path for path, calls in self._observed[0].inputs.items() if not calls)

    @cached_property
    def _by_nature(self) -> dict[str, str | None]:
        task, training = self.data.facts.task, self.plan.training
        return {
            name: unstackable(candidate, training, task, self.modules)
            for name, candidate in self.candidates.items()
        }

    @cached_property
    def _adapted(self) -> tuple[str, ...]:
        """Modules of all candidates that may be stacked, in the order of the model."""
        wanted = {
            path
            for name, candidate in self.candidates.items()
            if self._by_nature[name] is None
            for path in candidate.paths
        }
        return tuple(path for path in self.modules if path in wanted)

    @cached_property
    def _observed(self) -> tuple[Observation, Observation, Observation]:
        """A forward over two short rows, and one over each of them."""
        config: Any = self.model.config
        vocabulary: int = config.get_text_config().vocab_size
        one, other = probe_inputs(self.sample.inputs, vocabulary)
        both = {name: replicated(value, 1, 2) for name, value in one.items()}
        for name, value in other.items():
            if isinstance(value, torch.Tensor) and value.dim() > 0:
                both[name][1:] = value
        watched = [path for path in self.modules if path in self.lists or path in self.dimensions]
        with memory_guard(2, self.device):
            together, first, second = (
                observe(self.model, inputs, watched=watched, kept=self._adapted)
                for inputs in (both, one, other)
            )
        return together, first, second
