"""What a careful person writes with PEFT for one trial: what the stacked engine is compared with."""

from __future__ import annotations

import array
import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from lora_probe.piloting.data import Example, PilotData, batches
from lora_probe.piloting.engine.initial import initial_a
from lora_probe.piloting.records import (
    Candidate,
    DataFacts,
    ModelFacts,
    Plan,
    Protocol,
    Task,
    Training,
    Trial,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Run", "candidate", "made_data", "peft_run", "plan_of"]

PAD = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """One trial as PEFT trained it."""

    model: nn.Module
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)
    """Of each step, before clipping, by PEFT's names."""

    def matrices(self, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B of one module."""
        wrapped: Any = self.model.get_submodule(f"base_model.model.{path}")
        return wrapped.lora_A["default"].weight.detach(), wrapped.lora_B["default"].weight.detach()


def made_data(
    task: Task = Task.CAUSAL_LM, *, rows: int = 24, longest: int = 9, vocabulary: int = 50
) -> PilotData:
    """Return examples of unequal lengths, so that batches are padded, some with labels on a part only."""
    generator = torch.Generator().manual_seed(5)
    examples = []
    for index in range(rows):
        length = int(torch.randint(4, longest + 1, (1,), generator=generator))
        ids = torch.randint(1, vocabulary, (length,), generator=generator).tolist()
        labels = list(ids)
        if task is Task.SEQ2SEQ:
            labels = labels[: length - 2]
        elif index % 3 == 0 or task is Task.MASKED_LM:
            labels[: length // 2] = [-100] * (length // 2)
        examples.append(
            Example(key=str(index), input_ids=array.array("q", ids), labels=array.array("q", labels))
        )
    facts = DataFacts(source="made", task=task)
    return PilotData(
        facts=facts,
        train=tuple(examples),
        tuning=tuple(examples[:5]),
        test=tuple(examples[5:12]),
        pad_token_id=PAD,
    )


def candidate(
    model: nn.Module, name: str, *leaves: str, rank: int = 4, alpha: float = 8.0, where: str = "", **lora: Any
) -> Candidate:
    """Return the candidate that adapts the modules called one of `leaves` whose path holds `where`."""
    paths = tuple(
        path
        for path, _ in model.named_modules()
        if f".{path}".endswith(tuple(f".{leaf}" for leaf in leaves)) and where in path
    )
    assert paths, f"{leaves} match nothing"
    chosen = {"r": rank, "lora_alpha": alpha, "target_modules": list(paths), **lora}
    return Candidate(name=name, targets=name, rank=rank, alpha=alpha, paths=paths, lora=chosen)


def plan_of(candidates: Sequence[Candidate], **training: Any) -> Plan:
    """Return a plan with little training."""
    usual = {"steps": 8, "batch_size": 2, "warmup": 0.25, "weight_decay": 0.01}
    return Plan(
        model=ModelFacts(model="tiny"),
        data=DataFacts(source="made"),
        candidates=tuple(candidates),
        training=Training(**{**usual, **training}),
        protocol=Protocol(),
    )


def peft_run(
    base: nn.Module,
    data: PilotData,
    plan: Plan,
    trial: Trial,
    *,
    steps: int,
    prepare: Callable[[nn.Module], object] = lambda _: None,
    before: Callable[[int, int], None] = lambda _step, _micro_batch: None,
) -> Run:
    """Train one trial with PEFT on a copy of `base`; `before` is told of each micro-batch."""
    training = plan.training
    chosen = next(each for each in plan.candidates if each.name == trial.candidate)
    lora = {"lora_dropout": training.dropout, "use_rslora": training.use_rslora, **chosen.lora}
    run = Run(model=get_peft_model(copy.deepcopy(base), LoraConfig(**lora)).eval())
    for path in chosen.paths:
        a, _ = run.matrices(path)
        a.copy_(initial_a(path, seed=trial.seed, rank=a.shape[0], in_features=a.shape[1]))
    prepare(run.model)
    named = {name: each for name, each in run.model.named_parameters() if each.requires_grad}
    optimizer = torch.optim.AdamW(
        named.values(), lr=1.0, betas=training.betas, eps=training.epsilon, weight_decay=training.weight_decay
    )
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = trial.learning_rate * _factor(step, training)
        optimizer.zero_grad()
        found = batches(data, training, step=step)
        tokens = sum(int((_shifted(batch.labels, data) != -100).sum()) for batch in found)
        total = 0.0
        for micro_batch, batch in enumerate(found):
            before(step, micro_batch)
            inputs = dict(batch.inputs)
            if data.facts.task is Task.SEQ2SEQ:
                inputs["labels"] = batch.labels  # the model makes its decoder inputs of them
            logits = run.model(**inputs).logits
            targets = _shifted(batch.labels, data)
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        run.losses.append(total)
        run.gradients.append(
            {name: each.grad.clone() for name, each in named.items() if each.grad is not None}
        )
        largest = training.clip or math.inf
        run.norms.append(float(nn.utils.clip_grad_norm_(named.values(), largest)))
        optimizer.step()
    return run


def _shifted(labels: torch.Tensor, data: PilotData) -> torch.Tensor:
    if data.facts.task is not Task.CAUSAL_LM:
        return labels
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)


def _factor(step: int, training: Training) -> float:
    """Return the schedule by its definition: a straight rise, then half a cosine."""
    rising = math.ceil(training.warmup * training.steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (training.steps - rising)))
