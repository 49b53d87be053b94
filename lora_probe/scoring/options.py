"""What scores can be asked for, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.ranks import read_ranks
from lora_probe.errors import UnknownChoice
from lora_probe.peft_rules import ALL_LINEAR
from lora_probe.piloting.errors import BadPilotOption
from lora_probe.piloting.options import SourceOptions, read_options
from lora_probe.piloting.ranges import whole, within
from lora_probe.targets import parse_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.options import Settings

__all__ = ["Passing", "ScoreOptions", "read_score_options"]

_MOST_BATCHES, _LARGEST_SEED = 10_000, 2**63


class ScoreOptions(SourceOptions, total=False):
    """Options of :func:`lora_probe.score`; model and data are described as for :func:`lora_probe.pilot`."""

    targets: str
    """The set whose modules are scored; by default all-linear."""
    batches: int
    batch_size: int
    rank: int
    alpha_over_rank: float
    seed: int
    # As of a pilot
    max_length: int
    data_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Passing:
    """How scores are taken."""

    targets: str = ALL_LINEAR
    batches: int = 8
    """Micro-batches: forward and backward passes."""
    rank: int = 8
    alpha_over_rank: float = 2.0
    seed: int = 0
    """Of every A, together with its module's path."""


def read_score_options(options: Mapping[str, Any]) -> tuple[Passing, Settings]:
    """Return the options that were given, checked; None counts as not given.

    Raises:
        BadPilotOption: a number is out of its range.
        TargetSyntaxError: the target set cannot be read.
        UnknownChoice: there is no such option, or no such word for it.

    """
    known = ScoreOptions.__annotations__
    for name in options:
        if name not in known:
            raise UnknownChoice(option="an option", value=name, known=tuple(known))
    given = {name: value for name, value in options.items() if value is not None}
    own = {name: given.pop(name) for name in Passing.__dataclass_fields__ if name in given}
    passing = Passing(**own)
    if not isinstance(passing.targets, str):
        raise BadPilotOption(option="targets", value=passing.targets, problem="must be a text")
    parse_targets(passing.targets)
    read_ranks(passing.rank, where="rank")
    within(passing.alpha_over_rank, "alpha_over_rank", "greater than 0", lambda value: value > 0)
    whole(passing.batches, "batches", most=_MOST_BATCHES)
    whole(passing.seed, "seed", least=0, most=_LARGEST_SEED)
    return passing, read_options(given)
