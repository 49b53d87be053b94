"""The answer of a budget: plain records, compared with ``==`` and written as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from lora_probe.encoding import encoded
from lora_probe.frames import frame_of_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from lora_probe.budgeting.limits import Limit
    from lora_probe.graph import Note

__all__ = ["Budget", "By", "Part", "Row", "TargetSet", "Unfit"]


class By(str, Enum):
    """What the cost of a row is split by."""

    ROLE = "role"
    LAYER = "layer"
    BOTH = "role-layer"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSet:
    """One target set, whatever the rank."""

    targets: str
    """The set as it was asked for."""
    sites: int
    """Weights that get an adapter."""
    target_modules: tuple[str, ...] | str | None
    """What to give PEFT: names, a regular expression, or nothing."""
    target_parameters: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    rank_step: int = 1
    """What every rank must be a multiple of: more than 1 only where convolutions have groups."""
    full_rank: int
    """The rank from which on every update is of full rank."""
    fixed_parameters: int
    """Elements that are trained whatever the rank is."""
    parameters_per_step: int
    """Elements that each step of the rank adds."""

    def trainable_parameters(self, rank: int) -> int:
        """Return the elements that are trained at `rank`, a multiple of `rank_step`."""
        return self.fixed_parameters + rank // self.rank_step * self.parameters_per_step


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One target set at one rank."""

    targets: str
    """The set as it was asked for: the `targets` of one of the budget's sets."""
    rank: int
    sites: int
    """Weights that get an adapter."""
    trainable_parameters: int
    """Elements that are trained: adapters, and whatever the options train beside them."""
    share: float
    """`trainable_parameters` over the model's own parameters."""
    adapter_bytes: int
    """Size of ``adapter_model.safetensors`` as PEFT writes it."""
    target_modules: tuple[str, ...] | str | None
    target_parameters: tuple[str, ...]
    layers_to_transform: tuple[int, ...] | None = None
    left_over: int | None = None
    """Under a limit: how much of it this rank leaves, in the limit's unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfit:
    """A target set that no rank brings under the limit."""

    targets: str
    rank: int
    """The smallest rank that was tried."""
    least: int
    """What the set costs at that rank, in the limit's unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one role or layer takes of one row."""

    targets: str
    rank: int
    role: str | None
    """``text:attention.q``; or, for what has no role, why it is trained: ``copies``, ``biases``,
    ``token rows`` or ``other``. None where roles were not asked for."""
    layer: int | None
    """Index of the repeated layer; None outside of any, or where layers were not asked for."""
    sites: int
    trainable_parameters: int


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What each target set costs at each rank."""

    model: str
    source: str
    architecture: str
    model_type: str
    total_parameters: int
    """The model's own, tied weights once."""
    dtype: str
    """Element type in which the adapters are stored."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `LoraConfig` that hold for all rows, as PEFT spells them; defaults left out."""
    limit: Limit | None = None
    ranks: tuple[int, ...] = ()
    """The ranks that were asked for; none where a limit decides alone."""
    sets: tuple[TargetSet, ...]
    """In the order in which they were asked for."""
    rows: tuple[Row, ...]
    unfit: tuple[Unfit, ...] = ()
    by: By | None = None
    parts: tuple[Part, ...] = ()
    """The rows, split as `by` says: those of one row add up to it."""
    notes: tuple[Note, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the budget as JSON types; sizes are exact: elements, or bytes where the name says so."""
        document: dict[str, Any] = encoded(self)
        return document

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the budget as one JSON document in ASCII."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_frame(self) -> pd.DataFrame:
        """Return one line a row: the fields of :class:`Row`."""
        return frame_of_records(Row, self.rows).astype({"left_over": "Int64"})

    def parts_to_frame(self) -> pd.DataFrame:
        """Return one line a part: the fields of :class:`Part`; empty unless the budget was split."""
        return frame_of_records(Part, self.parts).astype({"layer": "Int64"})

    def _repr_html_(self) -> str:
        """Show the table where a notebook displays the budget."""
        # As for graphs: the one look from the core to an edge, since IPython asks the object itself.
        from lora_probe.report.budget_html import budget_fragment

        return budget_fragment(self)
