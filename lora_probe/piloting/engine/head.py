"""Logits for labelled positions only: what is not labelled never meets the output embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LabelledHead"]


class LabelledHead:
    """The output embedding of a model, given only the rows that carry a label.

    A hook before it picks the rows; whatever the model does to logits afterwards (scaling, soft-capping) is
    done element by element and goes on unchanged. A model without an output embedding, or with another shape
    of logits, computes them all.
    """

    def __init__(self, model: nn.Module) -> None:
        self.enabled = True
        self._model = model
        self._rows: Tensor | None = None
        self._positions = 0
        find: Any = getattr(model, "get_output_embeddings", None)
        self._head: nn.Module | None = find() if find is not None else None
        self._hook: Any = None

    def install(self) -> None:
        """Set the hook."""
        if self._head is not None:
            self._hook = self._head.register_forward_pre_hook(self._pick)

    def logits(self, inputs: dict[str, Any], rows: Tensor, positions: int) -> Tensor:
        """Run the model; return the logits (N, V) of N `rows` out of all `positions` of the batch."""
        picking = self.enabled and self._hook is not None
        self._rows, self._positions = (rows if picking else None), positions
        try:
            logits: Tensor = self._model(**inputs).logits
        finally:
            self._rows = None
        logits = logits.reshape(-1, logits.shape[-1])
        if len(logits) == len(rows):  # picked, or all of them labelled
            return logits
        return logits[rows.to(logits.device)]

    def remove(self) -> None:
        """Take the hook away."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _pick(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._rows is None or not arguments:
            return None
        hidden: Tensor = arguments[0]
        flat = hidden.reshape(-1, hidden.shape[-1])
        if len(flat) != self._positions:
            return None
        return (flat[self._rows.to(flat.device)][None], *arguments[1:])
