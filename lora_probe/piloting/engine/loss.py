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
    "piecewise_losses",
    "token_hits",
    "token_losses",
]

_PIECE_ROWS = 128
"""Rows of logits that are made at once, at least: fewer would leave a matrix product idle."""
_PIECE = {True: 1 << 22, False: 1 << 26}
"""Logits that are made at once, on a CPU (16 MiB: larger memory is mapped anew each time) and elsewhere."""


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


def piecewise_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, hits: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the nats of N predictions, and where `hits` are asked for which are right: (N,), (N,).

    `hidden` (N, H) is what the frozen output embedding, `weight` (V, H) and `bias` (V,), makes logits of.
    They are made for some rows at a time, and their gradient with them, so that of N x V numbers, the
    largest tensor of a small model by far, only a few are ever in memory.
    """
    losses, right = _PiecewiseLosses.apply(hidden, weight, bias, targets, hits)  # type: ignore[no-untyped-call]
    return losses, right if hits else None


class _PiecewiseLosses(torch.autograd.Function):
    """Head and cross-entropy at once: the forward leaves nothing to the backward but to scale a gradient."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes by position
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, hits: bool
    ) -> tuple[Tensor, Tensor]:
        losses = torch.empty(len(hidden), device=hidden.device)
        right = torch.empty(len(hidden) if hits else 0, dtype=torch.bool, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        size = max(_PIECE_ROWS, _PIECE[hidden.device.type == "cpu"] // len(weight))
        for start in range(0, len(hidden), size):
            piece = slice(start, start + size)
            logits = functional.linear(hidden[piece], weight, bias)
            wanted = targets[piece, None]
            if hits:
                right[piece] = token_hits(logits, targets[piece])
            scores = logits.float()
            expected, peak = scores.gather(1, wanted), scores.amax(1, keepdim=True)
            weights = scores.sub_(peak).exp_()
            total = weights.sum(1, keepdim=True)
            losses[piece] = (total.log() + peak - expected).squeeze(1)
            if gradient is not None:
                probabilities = weights.div_(total)
                probabilities.scatter_add_(1, wanted, torch.full_like(peak, -1))
                gradient[piece] = probabilities.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(right)
        return losses, right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0][:, None]).to(gradient.dtype), None, None, None, None


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

    A sequence-to-sequence model gets the decoder inputs that it would make from the labels itself. No cache
    is built; of a model with a vision tower, only the text model's config may know of one.
    """
    inputs: dict[str, Any] = dict(batch.inputs)
    config: Any = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in inputs:
        own: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        inputs["decoder_input_ids"] = (
            _shifted(batch.labels, config) if own is None else own(labels=batch.labels)
        )
    if config is not None and any(hasattr(each, "use_cache") for each in (config, config.get_text_config())):
        inputs["use_cache"] = False
    return inputs


def _shifted(labels: Tensor, config: Any) -> Tensor:
    """Return the decoder inputs of classes that make them in `forward` only, as M2M100's: (B, targets)."""
    inputs = functional.pad(labels[:, :-1], (1, 0), value=config.decoder_start_token_id)
    return inputs.masked_fill(inputs == IGNORED, config.pad_token_id)
