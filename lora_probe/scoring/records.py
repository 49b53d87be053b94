"""The records of scores: what was measured at each module, and what that makes of each role."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from lora_probe.encoding import encoded
from lora_probe.errors import UnknownChoice
from lora_probe.frames import frame_of_records
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from lora_probe.piloting.records import DataFacts, ModelFacts

__all__ = ["CAUTION", "RoleScore", "Scores", "Signal", "SiteScore", "Skipped"]

CAUTION = (
    "Scores are hints at what to try, not a verdict: which set learns best on this data, a pilot finds out."
)
"""Said wherever scores are shown."""


class Signal(str, Enum):
    """The three signals, each of which ranks the roles."""

    NFN = "nfn"
    """Normalized feature norm; the lowest first."""
    ENERGY = "energy"
    """LoRA's gradient energy for each added parameter; the highest first."""
    CONSISTENCY = "consistency"
    """The part of that energy on which micro-batches agree, for each added parameter; the highest first."""

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteScore:
    """One module."""

    path: str
    role: str
    """tower:block.part"""
    block: str
    layer: int | None
    in_features: int
    out_features: int
    added_parameters: int
    """Elements of A and B at the rank of the scores."""
    nfn: float | None
    """Mean over tokens of ``||W z|| / ||z||``, times ``sqrt(in_features) / ||W||_F``; 1 for a random input.

    None where W, or every z, is zero."""
    tokens: int
    """Inputs that `nfn` is the mean over; padding is none of them."""
    padding_masked: bool
    """False where the layer's inputs could not be told from padding, so that `nfn` counts that, too."""
    energy: float
    """``||dL/dB||^2``, mean over micro-batches; 0 where no gradient arrives."""
    snr: float | None
    """``||mean g||^2 / (mean ||g||^2 - ||mean g||^2)`` over micro-batches, g = dL/dB; pure noise gives about
    1/(k - 1) for k of them. None for one micro-batch, or without any gradient."""
    consistent_energy: float | None
    """``energy * snr / (1 + snr)``; None for one micro-batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleScore:
    """All scored modules of one role."""

    role: str
    """tower:block.part"""
    targets: str
    """The role as `resolve` reads it on this model; empty where no text of the grammar says it."""
    block: str
    sites: int
    added_parameters: int
    nfn: float | None
    """The mean over its modules."""
    energy: float
    """The sum over its modules: big roles have more of it."""
    energy_per_parameter: float
    snr: float | None
    """Of the gradients of all of its modules as one vector."""
    consistent_energy: float | None
    consistent_energy_per_parameter: float | None
    places: Mapping[str, int | None] = field(default_factory=dict)
    """Signal -> place in its ranking, 1 for the role to adapt first; None where it has no value."""
    contested: bool = False
    """Whether the rankings put the role at places that lie half of all roles apart, or more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """Weights that the target set holds and that were not scored."""

    reason: str
    parameters: tuple[str, ...]
    """Full names of the weights."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Scores:
    """What three signals say about one model on some data: candidates for a pilot, never a verdict."""

    model: ModelFacts
    data: DataFacts
    targets: str
    """The set whose modules are scored."""
    rank: int
    scale: float
    """alpha / rank."""
    batches: int
    """Micro-batches: forward and backward passes."""
    batch_size: int
    seed: int
    """Of every A."""
    tokens: int
    """Labels, over all micro-batches: of tokens, or of examples where each has one."""
    loss: float
    """Of the model as it is: nats per label."""
    sites: tuple[SiteScore, ...]
    """In the order of the model."""
    roles: tuple[RoleScore, ...]
    """By the mean of their places, the role to adapt first in front."""
    agreement: Mapping[str, float] = field(default_factory=dict)
    """``nfn~energy`` and so on -> Spearman's correlation of two rankings; none below three roles."""
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def contested(self) -> tuple[RoleScore, ...]:
        """The roles on which the signals disagree."""
        return tuple(role for role in self.roles if role.contested)

    def to_frame(self, *, by: str = "role") -> pd.DataFrame:
        """Return one line for each ``role``, with a column for each place, or for each ``module``.

        Raises:
            UnknownChoice: `by` is another word.

        """
        if by == "module":
            frame = frame_of_records(SiteScore, self.sites)
            return frame.astype({"layer": "Int64"})
        if by != "role":
            raise UnknownChoice(option="by", value=by, known=("role", "module"))
        frame = frame_of_records(RoleScore, self.roles)
        for signal in Signal:
            frame[f"{signal}_place"] = [role.places.get(signal) for role in self.roles]
        return frame.drop(columns="places").astype({f"{signal}_place": "Int64" for signal in Signal})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of all records as JSON types; an infinite number is the text ``inf``."""
        document: dict[str, Any] = {**encoded(self), "caution": CAUTION}
        return document

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the scores as one JSON document in ASCII."""
        return json.dumps(self.to_dict(), indent=indent)

    def __repr__(self) -> str:
        """Name the model in one line."""
        return f"<Scores {printable(self.model.model)}: {len(self.roles)} roles, {len(self.sites)} modules>"

    def _repr_html_(self) -> str:
        """Show table and heat maps where a notebook displays the scores."""
        # As for graphs: the one look from the core to an edge, since IPython asks the object itself.
        from lora_probe.report.score_html import score_fragment

        return score_fragment(self)
