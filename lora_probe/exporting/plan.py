"""What is to be exported: a target set with its options, and what PEFT makes of it, to compare with."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from lora_probe.budgeting.count import trainable_parameters
from lora_probe.errors import NotExportable, NotExpressible
from lora_probe.exporting.tasks import task_of
from lora_probe.peft_rules import LoraSettings, Prediction
from lora_probe.targets import emit
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lora_probe.graph import ModuleGraph, Site
    from lora_probe.peft_rules import Inventory

__all__ = ["Plan"]

_TARGETS = frozenset(
    {"target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern"}
)
"""What says which weights are adapted: each trainer has its own words for that."""
_COMMON = frozenset({"rank", "alpha", "dropout"})
_DEFAULTS = LoraSettings()
_WORDS = {
    "use_dora": "DoRA",
    "use_rslora": "rsLoRA",
    "bias": "training biases of the model",
    "lora_bias": "a bias in the adapters",
    "modules_to_save": "training modules in full",
    "trainable_token_indices": "training rows of an embedding",
    "ensure_weight_tying": "keeping tied weights tied",
    "rank_pattern": "ranks that differ from module to module",
    "alpha_pattern": "alphas that differ from module to module",
    "task_type": "the task type",
}
_HEADER_LIMIT = 200
_PLAIN = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")
"""Dotted names of attributes; of a hyphen at the start, a command line would make an option."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One target set for one trainer."""

    trainer: str
    inventory: Inventory
    text: str
    """The target set as it was asked for."""
    settings: LoraSettings
    """The same as PEFT is told."""
    prediction: Prediction
    """What PEFT makes of `settings`: what every trainer has to be led to."""

    @property
    def graph(self) -> ModuleGraph:
        """The model."""
        return self.inventory.graph

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites to be adapted."""
        return self.prediction.sites

    @property
    def task(self) -> str | None:
        """The task that was asked for, else the one that follows from the model."""
        return self.settings.task_type or task_of(self.graph)

    @cached_property
    def towers(self) -> frozenset[str]:
        """The towers that hold matrices."""
        return frozenset(site.tower for site in self.graph.sites if site.layer is not None)

    def header(self) -> tuple[str, ...]:
        """Return what a comment above the configuration says, one text a line, safe to print."""
        share = f"{len(self.sites):,} of {len(self.graph.sites):,} sites"
        parameters = trainable_parameters(self.prediction, self.inventory)
        lines = (
            f"LoRA for {self.graph.model} ({self.graph.architecture}), written by lora-probe",
            f"targets {self.text}: {share}, {parameters:,} trainable parameters",
        )
        return tuple(printable(line, limit=_HEADER_LIMIT) for line in lines)

    def refusal(self, reason: str, paths: Collection[str] = ()) -> NotExportable:
        """Return the error that says why the trainer cannot be told this."""
        return NotExportable(trainer=self.trainer, reason=reason, paths=tuple(paths))

    def check_names(self) -> None:
        """Check that no name could be read as something else: as an option, two names, or an escape sequence.

        Raises:
            NotExportable: a weight's name or a module to be saved has a character that no attribute has, or a
                text given by the user does not print.

        """
        names = [*(site.parameter for site in self.sites), *self.settings.modules_to_save]
        if odd := [name for name in names if not _PLAIN.fullmatch(name)]:
            raise self.refusal("only letters, digits, underscores and hyphens in names are safe there", odd)
        texts = [self.settings.target_modules, *self.settings.rank_pattern, *self.settings.alpha_pattern]
        if odd := [text for text in texts if isinstance(text, str) and not text.isprintable()]:
            raise self.refusal("an expression with characters that do not print is not safe there", odd)

    def allow_only(self, *known: str) -> None:
        """Check that no option is asked for but those that the trainer has: names of `LoraSettings`' fields.

        Raises:
            NotExportable: another one is.

        """
        for item in fields(LoraSettings):
            if item.name in _TARGETS or item.name in _COMMON or item.name in known:
                continue
            if getattr(self.settings, item.name) != getattr(_DEFAULTS, item.name):
                raise self.refusal(f"it has no option for {_WORDS[item.name]}")

    def allow_tasks(self, *known: str) -> None:
        """Check that the task is among those that the trainer has.

        Raises:
            NotExportable: it is another, or none follows from the model and none is given.

        """
        if self.task not in known:
            got = self.task or f"what a {self.graph.architecture} does unless a task type is given"
            raise self.refusal(f"its task is one of {', '.join(known)}, not {got}")

    def whole_alpha(self) -> int:
        """Return alpha for a trainer that takes whole numbers only.

        Raises:
            NotExportable: alpha is none.

        """
        alpha = self.settings.alpha
        if alpha != int(alpha):
            raise self.refusal(f"it takes a whole number as alpha, got {alpha}")
        return int(alpha)

    def forms(
        self, *, layers: bool = False, expressions: bool = False, exclusions: bool = False
    ) -> Iterator[LoraSettings]:
        """Yield settings that name the same weights to PEFT, first the ones that were asked for.

        Only with `layers` some of them count on `layers_to_transform`, with `expressions` on a text as
        target, with `exclusions` on `exclude_modules`.
        """
        seen: list[LoraSettings] = []
        for form in self._emitted(layers=layers, expressions=expressions, exclusions=exclusions):
            usable = (
                (layers or form.layers_to_transform is None)
                and (expressions or not isinstance(form.target_modules, str))
                and (exclusions or form.exclude_modules is None)
            )
            if usable and form not in seen:
                seen.append(form)
                yield form

    def _emitted(self, **words: bool) -> Iterator[LoraSettings]:
        yield self.settings
        choices = [(True, False) if allowed else (False,) for allowed in words.values()]
        for choice in product(*choices):
            with suppress(NotExpressible):
                given = dict(zip(words, choice, strict=True))
                yield emit(self.inventory, self.sites, settings=self.settings, **given)
