"""The records between reading and training: options, examples, and the parts they are split into."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Split

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping

    from lora_probe.piloting.records import DataFacts

__all__ = ["IGNORED", "DataOptions", "Example", "Masking", "PilotData", "TrainOn"]

IGNORED = -100
"""The label of a token that no loss is taken on; torch's and transformers' own number for it."""


class TrainOn(str, Enum):
    """Which tokens of a language model's example are trained on, and measured."""

    AUTO = "auto"
    """Completions where rows are prompt and completion, everything elsewhere: TRL's default."""
    ALL = "all"
    COMPLETION = "completion"
    ASSISTANT = "assistant"
    """The assistant's turns of a conversation, each with the token that ends it."""

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """How data is read and split, beyond what the task says."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Meaning -> column, where a column is not called what it means: ``{"text": "body"}``."""
    train_on: TrainOn = TrainOn.AUTO
    name: str | None = None
    """The configuration of a dataset id, where it has several."""
    split: str | None = None
    """Which split of a dataset id is read; None reads ``train``, or the only one."""
    revision: str | None = None
    token: str | bool | None = None
    max_examples: int = 20_000
    """The most rows that are read."""
    text_unit: str = "paragraph"
    """What one example of a plain text file is: ``line``, ``paragraph`` or ``document``."""
    tuning_items: int = 128
    test_items: int = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One tokenized example; with packing, one row of several.

    `labels` align with `input_ids` for causal, masked and token-level tasks and are not shifted; they are the
    target's own ids for sequence-to-sequence, and one class for sequence classification.
    """

    key: str
    """SHA-256 of what the example says, before tokenization; of a packed row, of the keys in it."""
    input_ids: array[int]
    labels: array[int]
    token_type_ids: array[int] | None = None
    """Which of two texts a token belongs to, where the tokenizer tells."""
    documents: tuple[int, ...] = ()
    """Lengths of the examples in a packed row, in order; empty without packing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Masking:
    """How training examples of a masked language model are masked anew in each step."""

    mask_token_id: int
    vocabulary: int
    """Ids below this replace a token at random."""
    share: float = 0.15


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PilotData:
    """The disjoint parts, each in the order of its keys: the order of the source does not matter."""

    facts: DataFacts
    train: tuple[Example, ...]
    """What is trained on: examples, or packed rows."""
    tuning: tuple[Example, ...]
    test: tuple[Example, ...]
    retention: tuple[Example, ...] = ()
    """Text that has nothing to do with the rest: what is forgotten shows on it. Empty where not asked for."""
    pad_token_id: int
    """What pads; classifiers that look for the last token must have it in their config, too."""
    label_names: tuple[str, ...] = ()
    """Names of the classes, in the order of their numbers; empty for other tasks."""
    masking: Masking | None = None
    notes: tuple[str, ...] = ()
    """What a reader should know of how the data was read, one sentence each."""

    def part(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of one split."""
        parts = {
            Split.TRAIN: self.train,
            Split.TUNING: self.tuning,
            Split.TEST: self.test,
            Split.RETENTION: self.retention,
        }
        return parts[split]
