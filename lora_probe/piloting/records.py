"""The records of a pilot: what is planned, what is run, and what was measured. Plain values, no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Arm",
    "Candidate",
    "DataFacts",
    "Evaluated",
    "Failed",
    "Failure",
    "ModelFacts",
    "Plan",
    "Protocol",
    "Result",
    "Split",
    "Task",
    "Trained",
    "Training",
    "Trial",
    "Unit",
]


class Arm(str, Enum):
    """What sort of arm a candidate is."""

    BASE = "base"
    """The model as it is: no step is trained."""
    LORA = "lora"
    FULL = "full"
    """Every weight is trained: the reference that regret is measured against."""

    __str__ = str.__str__


class Task(str, Enum):
    """What the model is trained for; decides its class, its loss and its labels."""

    CAUSAL_LM = "causal-lm"
    SEQ2SEQ = "seq2seq"
    MASKED_LM = "masked-lm"
    SEQUENCE_CLASSIFICATION = "sequence-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - no password

    __str__ = str.__str__

    @property
    def loss_unit(self) -> str:
        """What losses are told in: an example that is classified as a whole has one label, others many."""
        return "nats per example" if self is Task.SEQUENCE_CLASSIFICATION else "nats per token"


class Split(str, Enum):
    """The disjoint parts of the data."""

    TRAIN = "train"
    TUNING = "tuning"
    """Learning rates are chosen and arms are dropped on this part."""
    TEST = "test"
    """The verdict is spoken on this part, which nothing else has seen."""
    RETENTION = "retention"
    """Other text, given on request: what the model forgets by training is measured on it. Decides nothing."""

    __str__ = str.__str__


class Failure(str, Enum):
    """Why a trial has no result."""

    DIVERGED = "diverged"
    """The loss or a gradient became infinite or no number."""
    OUT_OF_MEMORY = "out-of-memory"
    """Not even alone did it fit."""
    CRASHED = "crashed"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One target set at one rank: an arm of the comparison."""

    name: str
    """As people call it: the preset or the text of the set; unique in a plan."""
    arm: Arm = Arm.LORA
    targets: str = ""
    """The target set in the grammar of `resolve`; empty for the base and for full fine-tuning."""
    rank: int = 0
    alpha: float = 0.0
    paths: tuple[str, ...] = ()
    """Exact paths of the adapted modules, in the order of the model."""
    parameters: tuple[str, ...] = ()
    """Full names of the bare parameters that are adapted (3-D experts), in the order of the model."""
    trainable_parameters: int = 0
    """Elements that are trained, as PEFT counts them."""
    left_over: int | None = None
    """Elements of the common budget that the rank leaves; None where none is shared."""
    lora: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the equal `LoraConfig` (r, lora_alpha, target_modules, …) as JSON types."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Trial:
    """One training run: a candidate at one learning rate with one seed."""

    candidate: str
    learning_rate: float
    seed: int
    repeat: int = 0
    """1 for the run that repeats another to measure the noise of equal runs."""

    @property
    def id(self) -> str:
        """A name that is unique in a plan and safe in a log; not for file names."""
        again = f"~{self.repeat}" if self.repeat else ""
        return f"{self.candidate}|{self.learning_rate:.6g}|{self.seed}{again}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How every trial is trained: equal for all of them."""

    steps: int = 200
    """Optimizer steps of a whole run; the schedule is complete at this length."""
    batch_size: int = 4
    """Rows of one micro-batch of one trial."""
    accumulation: int = 1
    """Micro-batches of one step."""
    max_length: int = 512
    """Tokens of one row."""
    packing: bool = False
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises linearly from 0."""
    schedule: str = "cosine"
    """``constant``, ``linear`` or ``cosine``: how it falls after the warm-up, to 0 at the last step."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip: float = 1.0
    """Largest norm of a trial's gradient; 0 for no clipping."""
    dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    gradient_checkpointing: bool = False
    data_seed: int = 0
    """Seeds the order of the data, the same for all trials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How arms are compared: section by section what a careful experimenter would fix beforehand."""

    learning_rate: float = 2e-4
    """Centre of the grid of every set."""
    grid: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Factors of the grid."""
    extensions: int = 2
    """How often a grid grows by its own ratio where the optimum sits on its edge."""
    full_learning_rate: float = 2e-5
    """Centre of the grid of full fine-tuning."""
    rungs: tuple[float, ...] = (0.1, 0.3)
    """Shares of the steps after which arms and learning rates are dropped; empty for no halving."""
    keep: float = 0.5
    """Share of the candidates that a rung keeps at least."""
    noise_band: float = 2.0
    """An arm within this many standard errors of the best one is never dropped."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """The search uses the first; finalists are trained with all."""
    rerun: bool = True
    """Train one arm twice with equal seed, to measure the noise of equal runs."""
    margin: float = 0.01
    """delta: differences up to this many nats a token do not matter."""
    confidence: float = 0.95
    resamples: int = 10_000
    equal: str = "parameters"
    """What is equal between the sets: ``parameters`` or ``rank``."""
    tuning_items: int = 128
    test_items: int = 256
    evaluations: int = 4
    """How often within a whole run the tuning part is evaluated (and a checkpoint written)."""
    accuracy: bool = False
    """Whether right predictions are counted, too; the loss decides all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """Which weights a plan speaks of."""

    model: str
    """What was asked for: hub id or path."""
    revision: str | None = None
    architecture: str = ""
    fingerprint: str = ""
    """SHA-256 over config and weight files (names, sizes, digests); detects a model changed underneath."""
    total_parameters: int = 0
    dtype: str = "float32"
    quantization: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """Which examples a plan speaks of."""

    source: str
    """What was asked for: files, folder or dataset id."""
    sources: tuple[str, ...] = ()
    """The same one by one, as it is asked for again."""
    task: Task = Task.CAUSAL_LM
    fingerprint: str = ""
    """SHA-256 over the tokenized examples, their split and the retention text; detects changes underneath."""
    train_examples: int = 0
    tuning_examples: int = 0
    test_examples: int = 0
    train_tokens: int = 0
    truncated_examples: int = 0
    duplicates_removed: int = 0
    retention: str = ""
    """What was asked for as the text whose loss tells what is forgotten; empty where nothing was."""
    retention_examples: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """How the examples were read (columns, template, split), as JSON types."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that decides what a pilot measures; written before the first step, compared on resuming."""

    model: ModelFacts
    data: DataFacts
    candidates: tuple[Candidate, ...]
    training: Training
    protocol: Protocol
    engine: str = "auto"
    """``auto``, ``stacked`` or ``reference``."""
    device: str = "cpu"
    wave: int | None = None
    """The most trials of one pass; None lets memory and a measured probe decide."""
    versions: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """The words of the command line that asked for it; empty where Python did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Work that one process does in one go: some trials, trained side by side from one step to another."""

    trials: tuple[Trial, ...]
    start: int
    """Steps that all of these trials have behind them."""
    stop: int
    """Steps that they have behind them afterwards."""
    splits: tuple[Split, ...]
    """What is evaluated at `stop`; between, the tuning part is evaluated as the protocol says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A stretch of training of one trial, step by step."""

    trial: Trial
    start: int
    losses: tuple[float, ...]
    """Nats per trained token of each step."""
    gradient_norms: tuple[float, ...]
    """Before clipping."""
    dead: tuple[str, ...] | None = None
    """Paths of adapters whose gradient was missing or exactly zero in every step of the stretch; None where
    nobody looked: a session counts from where it began, so only its first stretch knows."""
    tokens: int = 0
    """Tokens that were trained on."""
    seconds: float = 0.0
    """Its equal share of the wall-clock time of the pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The loss of one trial on every item of one split."""

    trial: Trial
    step: int
    split: Split
    nll: tuple[float, ...]
    """Negative log-likelihood in nats, summed over each item's labelled tokens, in the order of the split."""
    tokens: tuple[int, ...]
    """Labelled tokens of each item."""
    correct: tuple[int, ...] | None = None
    """Labelled tokens (or classes) predicted rightly, where that is asked for: secondary, never decides."""

    @property
    def loss(self) -> float:
        """Nats per token over the whole split."""
        return sum(self.nll) / max(1, sum(self.tokens))


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A trial that ended without a result: a row, never lost."""

    trial: Trial
    step: int
    failure: Failure
    reason: str


Result = Trained | Evaluated | Failed
"""One line of the log."""
