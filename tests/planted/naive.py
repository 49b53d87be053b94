"""The way without a pilot: every set at every learning rate with every seed, trained to the end by PEFT."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import lora_probe
from lora_probe.piloting.data import batches, evaluation_batches
from lora_probe.piloting.options import read_options
from lora_probe.piloting.preparation import prepare
from lora_probe.piloting.records import Arm, Split
from tests.planted.planting import SETS, plant
from tests.planted.suite import EXAMPLES, OPTIONS, planted_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lora_probe.piloting.preparation import Prepared
    from lora_probe.piloting.records import Candidate, Training

__all__ = ["Race", "race"]

Rows = tuple["Tensor", ...]
"""Tokens, mask and labels of one batch."""
_TIMED_STEPS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """One planting, judged both ways by the same process, one after the other."""

    number: int
    planted: str
    pilot_says: str | None
    naive_says: str
    pilot_seconds: float
    naive_seconds: float
    pilot_cpu: float
    """Seconds of processor time: what the machine was busy with otherwise does not count."""
    naive_cpu: float
    runs: int
    """Of the naive way, as many as it has."""
    runs_taken: int
    """So many of them were really run; where these are fewer, its seconds are scaled up from them."""
    threads: int
    work_ratio: float
    """Trial-steps of the naive way, over the pilot's."""

    @property
    def ratio(self) -> float:
        """How many times longer the naive way took."""
        return self.naive_seconds / self.pilot_seconds

    @property
    def cpu_ratio(self) -> float:
        """How many times more processor time it took."""
        return self.naive_cpu / self.pilot_cpu


def race(number: int, *, seeds: int | None = None) -> Race:
    """Judge one planting by a pilot, then the naive way; each loads model and data for itself.

    With `seeds` the naive way trains so many of the protocol's seeds only, and its time is scaled.
    """
    threads = torch.get_num_threads()
    planted = planted_set(number)
    with tempfile.TemporaryDirectory() as folder:
        made = plant(Path(folder), planted, number=number, examples=EXAMPLES)
        asked: Any = dict(OPTIONS)
        start, cpu = time.perf_counter(), time.process_time()
        report = lora_probe.pilot(
            made.model, str(made.data), out=Path(folder, "out"), candidates=tuple(SETS), **asked
        )
        middle, middle_cpu = time.perf_counter(), time.process_time()
        prepared = prepare(made.model, str(made.data), tuple(SETS), read_options(asked), tell=lambda _: None)
        chosen = prepared.plan.protocol.seeds[:seeds]
        says, taken = _best_of_all(prepared, chosen)
        end, end_cpu = time.perf_counter(), time.process_time()
    scale = len(prepared.plan.protocol.seeds) / len(chosen)
    return Race(
        number=number,
        planted=planted,
        pilot_says=report.analysis.verdict.recommended,
        naive_says=says,
        pilot_seconds=middle - start,
        naive_seconds=(end - middle) * scale,
        pilot_cpu=middle_cpu - cpu,
        naive_cpu=(end_cpu - middle_cpu) * scale,
        runs=round(taken * scale),
        runs_taken=taken,
        threads=threads,
        work_ratio=report.analysis.work.ratio or 0.0,
    )


def _best_of_all(prepared: Prepared, seeds: Sequence[int]) -> tuple[str, int]:
    """Return the set that loses least on the test part at its best rate, mean over seeds; and all runs."""
    protocol, training, data = prepared.plan.protocol, prepared.plan.training, prepared.data
    steps = [batches(data, training, step=step) for step in range(training.steps)]
    trained = [tuple(_tensors(each) for each in step) for step in steps]
    tuning, test = (
        [_tensors(each) for each in evaluation_batches(data, part, batch_size=64)]
        for part in (Split.TUNING, Split.TEST)
    )
    loops = _Loops(base=prepared.base.model, training=training, trained=trained, parts=(tuning, test))
    loops.choose_threads(prepared.plan.candidates[1])
    reached: dict[str, list[tuple[float, float]]] = {}
    runs = 0
    for candidate in prepared.plan.candidates:
        if candidate.arm is not Arm.LORA:
            continue
        for factor in protocol.grid:
            losses = []
            for seed in seeds:
                rate = factor * protocol.learning_rate
                losses.append(loops.run(candidate, rate, seed))
                runs += 1
            reached.setdefault(candidate.name, []).append(
                (mean(tuned for tuned, _ in losses), mean(tested for _, tested in losses))
            )
    return min(reached, key=lambda name: min(reached[name])[1]), runs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Loops:
    """Plain training of one adapter after another."""

    base: nn.Module
    training: Training
    trained: Sequence[Sequence[Rows]]
    """The micro-batches of each step."""
    parts: tuple[Sequence[Rows], Sequence[Rows]]
    """Tuning and test part."""

    def run(self, candidate: Candidate, rate: float, seed: int) -> tuple[float, float]:
        """Train one adapter to the end; return its loss on each part, nats per token."""
        model = self._train(candidate, rate, seed, self.training.steps)
        model.eval()
        with torch.inference_mode():
            tuning, test = (_loss(model, part) for part in self.parts)
        model.unload()
        return tuning, test

    def choose_threads(self, candidate: Candidate) -> None:
        """Use all cores, or one: many small operations may be slower on several."""
        seconds = {}
        for threads in (torch.get_num_threads(), 1):
            torch.set_num_threads(threads)
            start = time.perf_counter()
            self._train(candidate, 0.0, 0, _TIMED_STEPS).unload()
            seconds[threads] = time.perf_counter() - start
        torch.set_num_threads(min(seconds, key=seconds.__getitem__))

    def _train(self, candidate: Candidate, rate: float, seed: int, steps: int) -> Any:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        training = self.training
        model: Any = get_peft_model(self.base, LoraConfig(**candidate.lora))
        weights = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=training.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, training))
        model.train()
        for step in self.trained[:steps]:
            for inputs, mask, labels in step:
                model(input_ids=inputs, attention_mask=mask, labels=labels).loss.backward()
            nn.utils.clip_grad_norm_(weights, training.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return model


def _loss(model: nn.Module, part: Sequence[Rows]) -> float:
    """Return nats per token; all rows are equally long, so that those of a batch weigh the same."""
    sums = [
        (float(model(input_ids=inputs, attention_mask=mask, labels=labels).loss), len(inputs))
        for inputs, mask, labels in part
    ]
    return sum(loss * rows for loss, rows in sums) / sum(rows for _, rows in sums)


def _tensors(batch: Any) -> Rows:
    return batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.labels


def _factor(step: int, training: Training) -> float:
    """Return the share of the learning rate: a straight rise, then half a cosine."""
    rising = math.ceil(training.warmup * training.steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (training.steps - rising)))
