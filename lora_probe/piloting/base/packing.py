"""Whether a model keeps packed examples apart: asked of the model itself, since its config does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.piloting.errors import UnfitModel

if TYPE_CHECKING:
    from torch import Tensor

    from lora_probe.piloting.base.loading import Base

__all__ = ["require_packable"]

_TOKENS = 6
"""Length of each of the two examples of a row that is tried out."""
_TOLERANCE = 1e-3
"""Relative: above what another grouping of tokens rounds, below what a leak does."""
_ADVICE = "leave out --packing"


def require_packable(base: Base) -> None:
    """Refuse a model in which an example sees what is packed before it.

    Two rows are run that differ in their first example only, with positions that start anew in the second:
    its logits must not change. They do in state-space and recurrent mixers, which carry their state on, and
    in models that do not look at positions.

    Raises:
        UnfitModel: they do, or the model takes no positions.

    """
    try:
        one, other = (_second(base, first) for first in (0, 1))
    except (TypeError, ValueError):
        raise UnfitModel(
            model=base.facts.model,
            problem=f"{base.facts.architecture} takes no position_ids, which tell packed examples apart",
            advice=_ADVICE,
        ) from None
    if (one - other).abs().max() > _TOLERANCE * one.abs().max():
        raise UnfitModel(
            model=base.facts.model,
            problem=f"in {base.facts.architecture} an example would see those that are packed before it",
            advice=_ADVICE,
        )


def _second(base: Base, first: int) -> Tensor:
    """Return the logits of the second example in a row: (tokens, V); `first` says what stands before it."""
    import torch

    model: Any = base.model
    vocabulary: int = model.config.get_text_config().vocab_size
    draw = torch.Generator().manual_seed(0)
    before, ids = torch.randint(vocabulary, (2, _TOKENS), generator=draw)
    if first:
        before = (before + 1) % vocabulary
    row = torch.cat([before, ids])[None].to(base.device)  # (1, tokens)
    positions = torch.arange(_TOKENS).repeat(2)[None].to(base.device)
    with torch.no_grad():
        logits: Tensor = model(input_ids=row, position_ids=positions, use_cache=False).logits
    return logits[0, _TOKENS:].float()
