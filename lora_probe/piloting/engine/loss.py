"""Negative log-likelihood of labelled tokens: one definition for training, evaluation and both engines.

The loss of a step is the sum over the labelled tokens of all its micro-batches divided by their number,
whatever the micro-batches' own lengths; the loss of an item is a plain sum that comes with its number of
tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from lora_probe.piloting.data.examples import IGNORED
from lora_probe.piloting.records import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lora_probe.piloting.data.batches import Batch

__all__ = [
    "IGNORED",
    "aligned_labels",
    "item_hits",
    "item_losses",
    "model_inputs",
    "token_hits",
    "token_losses",
]


def aligned_labels(labels: Tensor, task: Task) -> Tensor:
    """Return the labels so that each stands where the logits that predict it stand: (B, T), int64.

    A causal model predicts the next token: its labels move one to the left. One label per row (B,) becomes
    (B, 1).
    """
    if labels.dim() == 1:
        labels = labels[:, None]
    if task is Task.CAUSAL_LM:
        labels = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    return labels


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the nats of each of N predictions in float32: logits (N, V), targets (N,) -> (N,)."""
    losses: Tensor = _TokenLosses.apply(logits, targets)  # type: ignore[no-untyped-call]
    return losses


class _TokenLosses(torch.autograd.Function):
    """Cross-entropy whose gradient takes the place of the probabilities: one (N, V) instead of three."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        log_probabilities = functional.log_softmax(logits, dim=-1, dtype=torch.float32)
        ctx.save_for_backward(log_probabilities, targets)
        ctx.dtype = logits.dtype
        return -log_probabilities.gather(1, targets[:, None]).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        outer = gradients[0][:, None]
        log_probabilities, targets = ctx.saved_tensors
        gradient = log_probabilities.exp_().mul_(outer)
        gradient.scatter_add_(1, targets[:, None], -outer)
        return gradient.to(ctx.dtype), None


def item_losses(logits: Tensor, labels: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Return the summed nats and the labelled tokens of each row: (B,) float32, (B,) int64.

    `logits` are a model's whole output (B, T, V), or (B, classes); `labels` are as the data hold them, not
    shifted.
    """
    targets = aligned_labels(labels, task)
    logits = _by_position(logits)
    labelled = targets != IGNORED
    nll = torch.zeros(targets.shape, device=logits.device)
    nll[labelled] = token_losses(logits[labelled], targets[labelled])
    return nll.sum(1), labelled.sum(1)


def item_hits(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Return how many labelled tokens of each row are predicted rightly: (B,) int64; see `item_losses`."""
    targets = aligned_labels(labels, task)
    return (token_hits(_by_position(logits), targets) & (targets != IGNORED)).sum(1)


def token_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return where the likeliest of V is the target: logits (…, V), targets (…) -> (…), bool."""
    return logits.argmax(-1) == targets


def _by_position(logits: Tensor) -> Tensor:
    """Return one prediction a row, (B, V), as that of its only position: (B, 1, V)."""
    return logits[:, None] if logits.dim() == 2 else logits  # noqa: PLR2004


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Return the arguments of the model's forward for a batch, without labels: the loss is computed here.

    A sequence-to-sequence model gets the decoder inputs that it would make from the labels itself.
    """
    inputs: dict[str, Any] = dict(batch.inputs)
    config: Any = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in inputs:
        made: Any = model.prepare_decoder_input_ids_from_labels  # a method of every such class
        inputs["decoder_input_ids"] = made(labels=batch.labels)
    if hasattr(config, "use_cache"):
        inputs["use_cache"] = False
    return inputs
