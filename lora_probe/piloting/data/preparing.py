"""Examples out of contents: tokenized, cut, rid of what cannot be trained on, told apart by their part."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.data.classes import find_classes
from lora_probe.piloting.data.examples import IGNORED, DataOptions, Example
from lora_probe.piloting.data.labelled import (
    tokenize_classified,
    tokenize_masked,
    tokenize_tagged,
    tokenize_targets,
)
from lora_probe.piloting.data.language import tokenize_language
from lora_probe.piloting.data.splitting import part_of
from lora_probe.piloting.records import Split, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.piloting.data.contents import Contents
    from lora_probe.piloting.data.tokenized import Tokenized

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The examples of each part in the order of their keys, and what was lost on the way."""

    parts: Mapping[Split, tuple[Example, ...]]
    label_names: tuple[str, ...]
    total: int
    """Examples that were tokenized."""
    truncated: int
    """Examples that were cut."""
    tokens: int
    """Tokens before anything was cut."""
    tokens_cut: int
    untrained: int
    """Examples without any token to train on after the cut, left out."""
    alike: int
    """Different contents that became equal tokens by the cut, left out but for one."""
    too_long: int
    """Examples that need more positions than the model has, and would not be cut to them."""


def prepare(
    contents: Contents,
    class_names: Mapping[str, tuple[str, ...]],
    *,
    task: Task,
    tokenizer: Any,
    max_length: int,
    positions: int | None,
    options: DataOptions,
    source: str,
    head_classes: Sequence[str] = (),
) -> Prepared:
    """Tokenize `contents` and split them; of equal tokens the one with the smallest key stays.

    What the model is shown alike, such as texts that the cut makes equal, is in one part, whatever it is to
    answer there: that of the smallest key.

    Raises:
        UnfitTokenizer, BadExample, BadDataOption, NoUsableData: as the tokenization of the task says.

    """
    ordered = sorted(contents.contents, key=lambda content: content.key)
    names: tuple[str, ...] = ()
    classes: dict[str, int] = {}
    if task in {Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION}:
        names, classes = find_classes(contents, class_names, head=head_classes, source=source)
    made = _tokenized(
        contents, classes, task=task, tokenizer=tokenizer, max_length=max_length, options=options
    )
    made_of = dict(zip((content.key for content in contents.contents), made, strict=True))
    parts: dict[Split, list[Example]] = {split: [] for split in Split}
    seen: set[tuple[bytes, bytes]] = set()
    part_with: dict[bytes, Split] = {}
    untrained = alike = 0
    for content in ordered:
        tokenized = made_of[content.key]
        example = _example(content.key, tokenized)
        tokens = (example.input_ids.tobytes(), example.labels.tobytes())
        if not _trains(example, task):
            untrained += 1
        elif tokens in seen:
            alike += 1
        else:
            seen.add(tokens)
            parts[part_with.setdefault(tokens[0], part_of(content.question))].append(example)
    lengths = [tokenized.length for tokenized in made_of.values()]
    limit = positions if positions is not None and positions < max_length else None
    return Prepared(
        parts={split: tuple(examples) for split, examples in parts.items()},
        label_names=names,
        total=len(lengths),
        truncated=sum(length > max_length for length in lengths),
        tokens=sum(lengths),
        tokens_cut=sum(max(0, length - max_length) for length in lengths),
        untrained=untrained,
        alike=alike,
        too_long=sum(length > limit for length in lengths) if limit is not None else 0,
    )


def _tokenized(
    contents: Contents,
    classes: Mapping[str, int],
    *,
    task: Task,
    tokenizer: Any,
    max_length: int,
    options: DataOptions,
) -> Iterator[Tokenized]:
    rows, told = contents.contents, {"tokenizer": tokenizer, "max_length": max_length}
    if task is Task.SEQ2SEQ:
        return tokenize_targets(rows, **told)
    if task is Task.MASKED_LM:
        return tokenize_masked(rows, **told)
    if task is Task.SEQUENCE_CLASSIFICATION:
        return tokenize_classified(rows, classes=classes, **told)
    if task is Task.TOKEN_CLASSIFICATION:
        return tokenize_tagged(rows, classes=classes, **told)
    return tokenize_language(rows, contents.layout.kind, train_on=options.train_on, **told)


def _example(key: str, made: Tokenized) -> Example:
    types = array("i", made.token_type_ids) if made.token_type_ids is not None else None
    return Example(
        key=key, input_ids=array("i", made.input_ids), labels=array("i", made.labels), token_type_ids=types
    )


def _trains(example: Example, task: Task) -> bool:
    """Tell whether a loss can be taken; a causal model never predicts the first token."""
    predicted = example.labels[1:] if task is Task.CAUSAL_LM else example.labels
    return len(example.input_ids) > 0 and predicted.count(IGNORED) < len(predicted)
