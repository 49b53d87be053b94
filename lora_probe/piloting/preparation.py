"""From what a user asks for to a plan, with the model and the data that it speaks of."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lora_probe._version import __version__
from lora_probe.piloting.candidates import propose_candidates
from lora_probe.piloting.records import Plan, Task
from lora_probe.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from lora_probe.piloting.base import Base, Opened
    from lora_probe.piloting.data import PilotData
    from lora_probe.piloting.options import Settings

__all__ = ["Loaded", "Prepared", "library_versions", "load", "prepare"]

_LONGEST_LIMIT = 10**6
"""Tokenizers without a limit say so with a huge one."""
_PEFT_TASKS = {
    Task.CAUSAL_LM: "CAUSAL_LM",
    Task.SEQ2SEQ: "SEQ_2_SEQ_LM",
    Task.SEQUENCE_CLASSIFICATION: "SEQ_CLS",
    Task.TOKEN_CLASSIFICATION: "TOKEN_CLS",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """A plan, and what it is carried out with."""

    plan: Plan
    base: Base
    data: PilotData
    notes: tuple[str, ...]
    """What a reader should know before the first step, one sentence each."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Loaded:
    """A model with its weights, and data as its tokenizer reads them."""

    base: Base
    data: PilotData
    max_length: int
    """Tokens of a row, at most."""


def prepare(
    model: str | os.PathLike[str],
    data: str | Sequence[str],
    candidates: Sequence[str] | None,
    settings: Settings,
    *,
    command: Sequence[str] = (),
    tell: Callable[[str], None],
) -> Prepared:
    """Find and load the model, read the data, and solve the ranks.

    `tell` hears what is being done.

    Raises:
        LoraProbeError: something of it is missing, broken, or does not fit together.

    """
    loaded = load(model, data, settings, tell=tell)
    base, task = loaded.base, loaded.data.facts.task
    favoured = _favoured(base, loaded.data, settings, tell=tell) if settings.propose else {}
    proposal = _propose(base, task, candidates, settings, tuple(favoured))
    plan = Plan(
        model=base.facts,
        data=loaded.data.facts,
        candidates=proposal.candidates,
        training=replace(settings.training, max_length=loaded.max_length),
        protocol=replace(settings.protocol, accuracy=_counts_right(settings, task)),
        engine=settings.engine,
        device=base.device.type,
        wave=settings.wave,
        versions=library_versions(),
        command=tuple(command),
    )
    new = ", ".join(printable(name, limit=60) for name in base.new_modules)
    head = (f"new, and trained in full from the same start in every arm: {new}",) if new else ()
    reasons = (favoured[each.targets] for each in proposal.candidates if each.targets in favoured)
    notes = (*base.notes, *head, *loaded.data.notes, *(note.message for note in proposal.notes), *reasons)
    return Prepared(plan=plan, base=base, data=loaded.data, notes=notes)


def load(
    model: str | os.PathLike[str],
    data: str | Sequence[str],
    settings: Settings,
    *,
    tell: Callable[[str], None],
) -> Loaded:
    """Find and load the model, and read the data.

    Raises:
        LoraProbeError: something of it is missing, broken, or does not fit together.

    """
    from lora_probe.piloting.base import (
        load_base,
        model_class_for,
        open_model,
        require_known_tokens,
        require_packable,
    )
    from lora_probe.piloting.data import DataOptions, TrainOn, load_data, with_retention

    opened = open_model(model, **settings.model)
    task = settings.task or opened.likely_task()
    if not opened.trust_remote_code:
        model_class_for(opened, task)  # before minutes go into the data
    tokenizer = opened.tokenizer()
    positions = _positions(opened, tokenizer)
    length = settings.max_length or min(
        settings.training.max_length, positions or settings.training.max_length
    )
    told = dict(settings.data)
    if "train_on" in told:
        told["train_on"] = TrainOn(told["train_on"])
    options = DataOptions(**told)
    tell("reading the data")
    loaded = load_data(
        data,
        task=task,
        tokenizer=tokenizer,
        max_length=length,
        packing=settings.training.packing,
        positions=positions,
        options=options,
        head_classes=opened.head_classes(task),
    )
    if settings.retention is not None:
        loaded = with_retention(
            loaded,
            settings.retention,
            tokenizer=tokenizer,
            max_length=length,
            positions=positions,
            options=options,
        )
    tell("loading the weights")
    base = load_base(
        opened, task=task, classes=loaded.label_names, pad_token_id=loaded.pad_token_id, **settings.base
    )
    require_known_tokens(base, loaded)
    if settings.training.packing:
        require_packable(base)
    return Loaded(base=base, data=loaded, max_length=length)


def _favoured(
    base: Base, data: PilotData, settings: Settings, *, tell: Callable[[str], None]
) -> Mapping[str, str]:
    """Return the target sets that the scores of the base favour -> the sentence that says why."""
    from lora_probe.scoring.options import Passing
    from lora_probe.scoring.proposals import propose
    from lora_probe.scoring.run import score_base

    tell("scoring the model, to propose sets")
    given = {name: settings.arms[name] for name in ("rank", "alpha_over_rank") if name in settings.arms}
    scores = score_base(base, data, Passing(**given), training=settings.training)
    found = propose(scores, settings.propose)
    return {each.targets: f"{each.targets} is proposed by scores: {each.reason}" for each in found}


def _propose(
    base: Base,
    task: Task,
    candidates: Sequence[str] | None,
    settings: Settings,
    proposed: Sequence[str],
) -> Any:
    """Return the arms, each of which also trains what the base's checkpoint did not hold."""
    from lora_probe.scanner import scan

    arms: dict[str, Any] = dict(settings.arms)
    if task in _PEFT_TASKS:
        arms.setdefault("task_type", _PEFT_TASKS[task])
    if base.new_modules:
        arms["modules_to_save"] = tuple(dict.fromkeys([*arms.get("modules_to_save", ()), *base.new_modules]))
    graph = replace(scan(base.model), model=base.facts.model, revision=base.facts.revision)
    return propose_candidates(graph, candidates, proposed=proposed, **arms)


def _counts_right(settings: Settings, task: Task) -> bool:
    """Return whether right predictions are counted: of classes unless told otherwise, of tokens if told."""
    if settings.accuracy is not None:
        return bool(settings.accuracy)
    return task in {Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION}


def _positions(opened: Opened, tokenizer: Any) -> int | None:
    """Return how many tokens the model can see; None where nothing says so."""
    text = opened.config.get("text_config")
    config = text if isinstance(text, dict) else opened.config
    named = (config.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
    said = [each for each in (*named, getattr(tokenizer, "model_max_length", None)) if isinstance(each, int)]
    return min((each for each in said if 0 < each < _LONGEST_LIMIT), default=None)


def library_versions() -> Mapping[str, str]:
    """Return the versions of what decides the numbers of a run."""
    libraries = ("torch", "transformers", "peft", "datasets")
    return {
        "lora-probe": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }
