"""Whether a model knows every token that its tokenizer makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.piloting.errors import UnfitModel
from lora_probe.piloting.records import Split, Task

if TYPE_CHECKING:
    from lora_probe.piloting.base.loading import Base
    from lora_probe.piloting.data import PilotData

__all__ = ["require_known_tokens"]


def require_known_tokens(base: Base, data: PilotData) -> None:
    """Refuse data with a token that the model's embedding has no row for.

    A tokenizer to which tokens were added, or that belongs to another model, makes such.

    Raises:
        UnfitModel: there is one; says which.

    """
    model: Any = base.model
    rows: int = model.get_input_embeddings().weight.shape[0]
    largest = max(
        (max(ids) for split in Split for each in data.part(split) for ids in _tokens(each, data) if len(ids)),
        default=0,
    )
    if data.masking is not None:
        largest = max(largest, data.masking.mask_token_id, data.masking.vocabulary - 1)
    if largest >= rows:
        raise UnfitModel(
            model=base.facts.model,
            problem=f"its tokenizer makes token {largest}, and its embedding ends at token {rows - 1}",
            advice="put the tokenizer beside it that it was trained with",
        )


def _tokens(example: Any, data: PilotData) -> tuple[Any, ...]:
    """Return what is looked up in the embedding: of a sequence-to-sequence example its labels, too."""
    if data.facts.task is Task.SEQ2SEQ:
        return example.input_ids, example.labels
    return (example.input_ids,)
