"""Eight trials of a pilot, trained in the ways that the benchmark compares."""

from __future__ import annotations

import array
import copy
import multiprocessing
import random
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
import transformers

from lora_probe.piloting.data import Example, PilotData, batches
from lora_probe.piloting.engine.choosing import make_engine
from lora_probe.piloting.engine.stacked import StackedEngine
from lora_probe.piloting.records import Candidate, DataFacts, ModelFacts, Plan, Protocol, Training, Trial

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from torch import nn

VOCABULARY = 4096
SETS = {
    "qv": ("q_proj", "v_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
    "all-linear": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
LAYERS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What every way trains."""

    trials: int
    rows: int
    tokens: int
    top: int = LAYERS
    """How many of the last layers are adapted."""

    def __str__(self) -> str:
        adapted = "" if self.top == LAYERS else f", top {self.top} of {LAYERS} layers"
        return f"{self.trials} trials of {self.rows} x {self.tokens}{adapted}"


def base_model() -> nn.Module:
    """Return a Llama of 30 million parameters with random weights."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
    )
    return transformers.LlamaForCausalLM(config).eval()


def made_plan(load: Load) -> tuple[Plan, PilotData, list[Trial]]:
    """Return a plan of four target sets, random data of one length, and the trials."""
    draw = random.Random(0)  # noqa: S311 - random text, no secret
    rows = []
    for index in range(64):
        ids = array.array("q", [draw.randrange(1, VOCABULARY) for _ in range(load.tokens)])
        rows.append(Example(key=str(index), input_ids=ids, labels=ids))
    facts = DataFacts(source="random")
    data = PilotData(facts=facts, train=tuple(rows), tuning=(), test=(), pad_token_id=0)
    candidates = [
        Candidate(name=name, targets=name, rank=8, alpha=16, paths=_paths(leaves, load.top))
        for name, leaves in SETS.items()
    ]
    plan = Plan(
        model=ModelFacts(model="random"),
        data=facts,
        candidates=tuple(candidates),
        training=Training(steps=1000, batch_size=load.rows, max_length=load.tokens),
        protocol=Protocol(),
    )
    names = [list(SETS)[index % len(SETS)] for index in range(load.trials)]
    trials = [
        Trial(candidate=name, learning_rate=1e-4 * (1 + index // len(SETS)), seed=0)
        for index, name in enumerate(names)
    ]
    return plan, data, trials


def _paths(leaves: tuple[str, ...], top: int) -> tuple[str, ...]:
    return tuple(
        f"model.layers.{layer}.{'self_attn' if leaf[0] in 'qkvo' else 'mlp'}.{leaf}"
        for layer in range(LAYERS - top, LAYERS)
        for leaf in leaves
    )


class Stacked:
    """All trials in one stack, or some of them."""

    def __init__(self, load: Load, part: slice = slice(None)) -> None:
        plan, data, trials = made_plan(load)
        self.session = StackedEngine(plan, base_model(), data).start(trials[part])
        self._step = 0

    def run(self, steps: int) -> None:
        """Train some steps more."""
        for _ in range(steps):
            self.session.train(self._step)
            self._step += 1


class Chosen:
    """All trials, spread as the engine itself finds fastest."""

    def __init__(self, load: Load) -> None:
        plan, data, trials = made_plan(load)
        engine = make_engine(replace(plan, wave=load.trials), base_model(), data)
        self.reason = engine.reason
        self._session = engine.start(trials)
        self._step = 0

    def run(self, steps: int) -> None:
        """Train some steps more."""
        for _ in range(steps):
            self._session.train(self._step)
            self._step += 1


class Bare:
    """The forward and the backward of one trial's PEFT model, and nothing else."""

    def __init__(self, load: Load) -> None:
        self._loops = Loops(load)

    def run(self, steps: int) -> None:
        """Compute the gradients of some steps."""
        self._loops.gradients(steps)


class Frozen:
    """The base alone, as its library computes it: one forward and backward of the batch of all trials.

    A mark to compare with: without any adapter, optimizer or clipping, but with all that it does to norms
    and logits.
    """

    def __init__(self, load: Load) -> None:
        self._plan, self._data, _ = made_plan(load)
        self._trials = load.trials
        self._model = base_model().requires_grad_(False)

    def run(self, steps: int) -> None:
        """Pass some batches forth and back."""
        for step in range(steps):
            (batch,) = batches(self._data, self._plan.training, step=step)
            ids, labels = (each.repeat(self._trials, 1) for each in (batch.inputs["input_ids"], batch.labels))
            embedded = self._model.get_input_embeddings()(ids).requires_grad_()
            self._model(inputs_embeds=embedded, labels=labels, use_cache=False).loss.backward()


class Loops:
    """One PEFT model and one fused AdamW for each trial, over one copy of the base's weights."""

    def __init__(self, load: Load, part: slice = slice(None)) -> None:
        from peft import LoraConfig, get_peft_model

        self._plan, self._data, trials = made_plan(load)
        base = base_model()
        weights = {id(each): each for each in base.parameters()}
        by_name = {each.name: each for each in self._plan.candidates}
        self._runs: list[tuple[Any, Any]] = []
        for trial in trials[part]:
            paths = list(by_name[trial.candidate].paths)
            config = LoraConfig(r=8, lora_alpha=16, target_modules=paths, lora_dropout=0.0)
            model = get_peft_model(copy.deepcopy(base, dict(weights)), config).train()
            trained = [each for each in model.parameters() if each.requires_grad]
            self._runs.append((model, torch.optim.AdamW(trained, lr=trial.learning_rate, fused=True)))
        self._step = 0

    def gradients(self, steps: int) -> None:
        """Compute the gradients of the first trial, again and again on the same batch."""
        ((model, optimizer),) = self._runs
        (batch,) = batches(self._data, self._plan.training, step=0)
        for _ in range(steps):
            model(**batch.inputs, labels=batch.labels, use_cache=False).loss.backward()
            optimizer.zero_grad()

    def run(self, steps: int) -> None:
        """Train every trial some steps more, one after another."""
        for model, optimizer in self._runs:
            trained = optimizer.param_groups[0]["params"]
            for step in range(self._step, self._step + steps):
                (batch,) = batches(self._data, self._plan.training, step=step)
                model(**batch.inputs, labels=batch.labels, use_cache=False).loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        self._step += steps


class Processes:
    """Two processes of one thread each, which share the trials half and half and train them in one way."""

    def __init__(self, load: Load, way: type[Loops | Stacked]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends = []
        for half in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, load, way, half), daemon=True)
            process.start()
            self._ends.append((process, ours))
        for _, end in self._ends:
            end.recv()

    def run(self, steps: int) -> None:
        """Let both train their trials some steps more; return when the slower has."""
        for _, end in self._ends:
            end.send(steps)
        for _, end in self._ends:
            end.recv()

    def close(self) -> None:
        """End both processes."""
        for process, end in self._ends:
            end.send(0)
            process.join()


def _serve(end: Connection, load: Load, way: type[Loops | Stacked], half: int) -> None:
    torch.set_num_threads(1)
    middle = load.trials // 2
    trained = way(load, slice(None, middle) if half == 0 else slice(middle, None))
    end.send("ready")
    while steps := end.recv():
        trained.run(steps)
        end.send("done")


def seconds(way: Any, steps: int) -> float:
    """Return the wall-clock time of one step of all trials."""
    start = perf_counter()
    way.run(steps)
    return (perf_counter() - start) / steps
