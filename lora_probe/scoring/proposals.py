"""Target sets that the scores favour: what a pilot may try beside the sets that people argue about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import BadPilotOption
from lora_probe.scoring.records import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.scoring.records import RoleScore, Scores

__all__ = ["ProposedSet", "check_number", "propose"]

_MOST = 100
_REASONS = {
    Signal.NFN: "have the lowest NFN",
    Signal.ENERGY: "have the most gradient energy for each added parameter",
    Signal.CONSISTENCY: "have the most consistent gradient energy for each added parameter",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposedSet:
    """One target set, in the grammar of `resolve`, and why it is proposed."""

    targets: str
    reason: str


def propose(scores: Scores, n: int = 3) -> tuple[ProposedSet, ...]:
    """Return up to `n` different sets of roles that the scores favour; fewer where there are no more.

    First the third of the roles that is best by the mean of their places, then the best third by each signal
    alone, then the best half by all and by each. A set of all roles is none: that is all-linear.

    Raises:
        BadPilotOption: `n` is no whole number from 1 to 100.

    """
    check_number(n, option="n")
    roles = [role for role in scores.roles if role.targets and any(role.places.values())]
    found: dict[frozenset[str], ProposedSet] = {}
    for chosen, reason in _favoured(roles):
        texts = [role.targets for role in scores.roles if role in chosen]
        if 0 < len(chosen) < len(scores.roles):
            found.setdefault(frozenset(texts), ProposedSet(targets="+".join(texts), reason=reason))
    return tuple(found.values())[:n]


def check_number(n: object, *, option: str) -> None:
    """Return where `n` is a number of sets that can be proposed.

    Raises:
        BadPilotOption: it is none.

    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= _MOST:
        raise BadPilotOption(option=option, value=n, problem=f"must be a whole number from 1 to {_MOST}")


def _favoured(roles: Sequence[RoleScore]) -> Iterator[tuple[Sequence[RoleScore], str]]:
    for part, word in ((3, "third"), (2, "half")):
        size = math.ceil(len(roles) / part)
        yield roles[:size], f"the {word} of the roles that the three signals together put first"
        for signal, reason in _REASONS.items():
            placed = [role for role in roles if role.places[signal] is not None]
            best = sorted(placed, key=lambda role, by=signal: role.places[by] or 0)  # type: ignore[misc]
            yield best[:size], f"the {word} of the roles that {reason}"
