"""Which arms go on after a rung: the better part, and all that noise might have kept from being the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.piloting.outcome import Dropped
from lora_probe.piloting.statistics.paired import paired_difference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.piloting.records import Evaluated, Protocol

__all__ = ["FEWEST_FINALISTS", "Halving", "halve"]

FEWEST_FINALISTS = 2
"""Fewer leave nothing to compare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Halving:
    """What a rung decided."""

    kept: tuple[str, ...]
    """In the order of the plan."""
    dropped: tuple[Dropped, ...]


def halve(
    standing: Mapping[str, Evaluated], protocol: Protocol, *, step: int, rerun: float | None
) -> Halving:
    """Return which arms go on; `standing` are their losses on the tuning part at their best learning rates.

    As many as the protocol's share go on by their places. Any other is dropped only where it loses more
    against the best than `noise_band` standard errors: of the paired difference over the items and, where it
    is known, of two equal runs (`rerun`, their difference in nats per token). Arms that tie with the last one
    kept by its place, all of them far behind the best, would cost much and can win nothing.
    """
    places = sorted(standing, key=lambda name: (standing[name].loss, name))
    count = max(FEWEST_FINALISTS, math.ceil(protocol.keep * len(places)))
    if not protocol.rungs or len(places) <= count:
        return Halving(kept=tuple(standing), dropped=())
    against = places[0]
    dropped = []
    for name in places[count:]:
        behind, error = paired_difference(standing[name], standing[against])
        band = protocol.noise_band * math.hypot(error, rerun or 0.0)
        if behind > band:
            dropped.append(
                Dropped(
                    candidate=name,
                    step=step,
                    loss=standing[name].loss,
                    against=against,
                    against_loss=standing[against].loss,
                    standard_error=error,
                    band=band,
                    reason=f"after {step} steps {behind:.4f} nats behind {against}, "
                    f"the best so far; noise explains up to {band:.4f}",
                )
            )
    gone = {each.candidate for each in dropped}
    return Halving(kept=tuple(name for name in standing if name not in gone), dropped=tuple(dropped))
