"""One pass of a stack through the model: the loss of every labelled token of every trial."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from lora_probe.piloting.engine.head import HeadUse, OutputHead
from lora_probe.piloting.engine.norms import frozen_norm
from lora_probe.piloting.engine.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from lora_probe.piloting.engine.prefix import SharedPrefix
    from lora_probe.piloting.engine.sequences import Rows
    from lora_probe.piloting.engine.stack import Stack

__all__ = ["StackedPass"]

_TOLERANCE = 1e-3
"""Largest relative difference that sharing may make to a loss: rounding, not another function."""


class StackedPass:
    """The model with its stack, its output head and, where there is one, its shared prefix."""

    def __init__(
        self,
        model: nn.Module,
        stack: Stack,
        *,
        head: HeadUse,
        norms: Sequence[nn.Module] = (),
        recomputed: Sequence[nn.Module] = (),
    ) -> None:
        """Take a model, those of its norms that are plain, and layers that are to keep no activations."""
        self._model, self._stack = model, stack
        self._norms, self._recomputed = norms, recomputed
        self._patches = Patches()
        self._head = OutputHead(model, head)
        self._prefix: SharedPrefix | None = None

    def __enter__(self) -> None:
        """Change the model: for one step, or one evaluation, so that other stacks can take their turns."""
        self._stack.install()
        self._head.install()
        for norm in self._norms:
            self._patches.replace(norm, partial(frozen_norm, norm))
        for layer in self._recomputed:
            self._patches.replace(layer, _recomputing)
        if self._prefix is not None:
            self._prefix.install()

    def __exit__(self, *_: object) -> None:
        """Give the model back as it was."""
        if self._prefix is not None:
            self._prefix.remove()
        self._patches.undo()
        self._head.remove()
        self._stack.remove()

    def token_losses(self, rows: Rows) -> Tensor:
        """Return the nats of each labelled token of each trial: (trials, N), float32."""
        return self._losses(rows, self._stack.trials)

    def measured(self, rows: Rows, *, base: bool, hits: bool) -> tuple[Tensor, Tensor | None]:
        """Return the losses and, where `hits` are asked for, whether each prediction is right: (trials, N).

        With `base` those of the model without any update, as of one trial.
        """
        if not base:
            return self._measured(rows, self._stack.trials, hits=hits)
        with self._without_updates():
            return self._measured(rows, 1, hits=hits)

    def share(self, prefix: SharedPrefix | None) -> None:
        """From the next entry on, compute the layers of `prefix` once for all trials; None for no more."""
        self._prefix = prefix

    def sharing_holds(self, rows: Rows) -> bool:
        """Tell whether two copies of a batch have the same losses with the shared prefix as without.

        They have not where a model carries more from layer to layer than what its layers return; without
        labels, nobody can tell.
        """
        if not len(rows.labelled):
            return False
        with torch.no_grad(), self._without_updates():
            expected = self._losses(rows, 1)
            try:
                shared = self._losses(rows, 2)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # noqa: BLE001 - a model may write into what its layers return, or miss a state of theirs
                return False
        bound = _TOLERANCE * (1 + expected.abs().max())
        return bool((shared - expected).abs().max() <= bound)

    @contextmanager
    def _without_updates(self) -> Iterator[None]:
        before, self._stack.active = self._stack.active, False
        try:
            yield
        finally:
            self._stack.active = before

    def _losses(self, rows: Rows, trials: int) -> Tensor:
        return self._measured(rows, trials, hits=False)[0]

    def _measured(self, rows: Rows, trials: int, *, hits: bool) -> tuple[Tensor, Tensor | None]:
        inputs, labelled = rows.stacked(trials)
        targets = rows.targets.flatten()[rows.labelled].repeat(trials)
        positions = rows.targets.numel() * trials
        with self._replayed(rows, trials):
            losses, right = self._head.losses(inputs, labelled, positions, targets, hits=hits)
        where = rows.targets.device
        return losses.view(trials, -1).to(where), right if right is None else right.view(trials, -1).to(where)

    @contextmanager
    def _replayed(self, rows: Rows, trials: int) -> Iterator[None]:
        if self._prefix is None or trials == 1:
            yield
            return
        try:
            with self._without_updates():
                self._prefix.record(self._model, rows.inputs, rows=rows.rows, trials=trials)
            self._prefix.replay(on=True)
            yield
        finally:
            self._prefix.replay(on=False)


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer that computes its activations again when the backward pass asks for them.

    Done here rather than by the model's own switch, which only works in training mode, with dropout.
    """

    def layer(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)

    return layer
