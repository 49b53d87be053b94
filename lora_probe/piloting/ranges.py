"""What the numbers of a plan may be, whether a user gives them or a file holds them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_probe.errors import UnknownChoice
from lora_probe.piloting.errors import BadPilotOption
from lora_probe.piloting.records import Arm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lora_probe.piloting.records import Candidate, Protocol, Training

__all__ = ["check_candidates", "check_protocol", "check_training", "one_of", "whole", "within"]

_SCHEDULES = ("constant", "linear", "cosine")
_LOWEST_RATE, _HIGHEST_RATE = 1e-12, 10.0
_LARGEST_FACTOR = 1e6
_MOST = 10**7
_MOST_EXTENSIONS = 20
"""By a grid's ratio of 2, a million times the rate that it began with."""
_LEAST_RESAMPLES = 100
"""Fewer have no 2.5th percentile worth the name."""
_WIDEST_MARGIN = 100.0
"""Nats: more than any two losses differ by."""
_BETAS = 2


def check_training(training: Training) -> None:
    """Return where every number can be trained with.

    Raises:
        BadPilotOption: a number is out of its range.
        UnknownChoice: there is no such schedule.

    """
    for name in ("steps", "batch_size", "accumulation", "max_length"):
        whole(getattr(training, name), name)
    whole(training.data_seed, "data_seed", least=0, most=2**63)
    one_of(training.schedule, _SCHEDULES, "schedule")
    within(training.warmup, "warmup", "from 0 to 1", lambda value: 0 <= value <= 1)
    within(training.dropout, "dropout", "from 0 to below 1", lambda value: 0 <= value < 1)
    for name in ("weight_decay", "clip"):
        within(getattr(training, name), name, "0 or more", lambda value: value >= 0)
    within(training.epsilon, "epsilon", "greater than 0", lambda value: value > 0)
    if len(training.betas) != _BETAS:
        raise BadPilotOption(option="betas", value=training.betas, problem="must be two numbers")
    for beta in training.betas:
        within(beta, "betas", "from 0 to below 1", lambda value: 0 <= value < 1)


def check_protocol(protocol: Protocol) -> None:
    """Return where arms can be compared by every number.

    Raises:
        BadPilotOption: a number is out of its range.
        UnknownChoice: there is no such word for what is equal.

    """
    for name in ("learning_rate", "full_learning_rate"):
        within(
            getattr(protocol, name),
            name,
            f"from {_LOWEST_RATE:g} to {_HIGHEST_RATE:g}",
            lambda value: _LOWEST_RATE <= value <= _HIGHEST_RATE,
        )
    _each(
        protocol.grid,
        "grid",
        f"factors from {1 / _LARGEST_FACTOR:g} to {_LARGEST_FACTOR:g}",
        lambda value: 1 / _LARGEST_FACTOR <= value <= _LARGEST_FACTOR,
        least=1,
    )
    if len({f"{factor:.6g}" for factor in protocol.grid}) < len(protocol.grid):  # as trials are called
        raise BadPilotOption(option="grid", value=protocol.grid, problem="must differ in six digits")
    _each(protocol.rungs, "rungs", "shares above 0 and below 1", lambda value: 0 < value < 1, least=0)
    _each(
        protocol.seeds,
        "seeds",
        "whole numbers, 0 or more",
        lambda value: value >= 0 and int(value) == value,
        least=1,
    )
    within(protocol.keep, "keep", "above 0 and up to 1", lambda value: 0 < value <= 1)
    within(protocol.confidence, "confidence", "above 0.5 and below 1", lambda value: 0.5 < value < 1)  # noqa: PLR2004
    within(protocol.noise_band, "noise_band", "0 or more", lambda value: value >= 0)
    within(
        protocol.margin, "margin", f"from 0 to {_WIDEST_MARGIN:g}", lambda value: 0 <= value <= _WIDEST_MARGIN
    )
    whole(protocol.extensions, "extensions", least=0, most=_MOST_EXTENSIONS)
    for name in ("tuning_items", "test_items", "evaluations"):
        whole(getattr(protocol, name), name)
    whole(protocol.resamples, "resamples", least=_LEAST_RESAMPLES)
    one_of(protocol.equal, ("parameters", "rank"), "equal")


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """Return where the arms can be told apart and trained.

    Raises:
        BadPilotOption: two have one name or stand for one reference, or a set has no rank.

    """
    names = [each.name for each in candidates]
    if len(set(names)) < len(names):
        raise BadPilotOption(option="candidates", value=", ".join(names), problem="must differ by name")
    for arm in (Arm.BASE, Arm.FULL):
        found = [each.name for each in candidates if each.arm is arm]
        if len(found) > 1:
            raise BadPilotOption(option=str(arm), value=", ".join(found), problem="must be one arm at most")
    for each in candidates:
        if each.arm is Arm.LORA:
            whole(each.rank, f"the rank of {each.name}")
            whole(each.trainable_parameters, f"the parameters of {each.name}", most=2**63)
            within(each.alpha, f"alpha of {each.name}", "greater than 0", lambda value: value > 0)


def one_of(value: object, known: tuple[str, ...], name: str) -> None:
    """Return where `value` is one of the `known` words for the option `name`."""
    if value not in known:
        raise UnknownChoice(option=name, value=value, known=known)


def whole(value: Any, name: str, *, least: int = 1, most: int = _MOST) -> int:
    """Return `value` where it is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadPilotOption(
            option=name, value=value, problem=f"must be a whole number from {least:,} to {most:,}"
        )
    return value


def within(value: Any, name: str, words: str, allowed: Callable[[float], bool]) -> None:
    """Return where `value` is a finite number that is `allowed`, which `words` describe."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and allowed(value)):
        raise BadPilotOption(
            option=name, value=value, problem=f"must be {words}{'' if number else ', and a finite number'}"
        )


def _each(
    values: Sequence[Any], name: str, words: str, allowed: Callable[[float], bool], *, least: int
) -> None:
    """Check numbers that must differ from each other."""
    for value in values:
        within(value, name, words, allowed)
    if len(values) < least or len(set(values)) < len(values):
        problem = "must hold at least one" if len(values) < least else "must hold each once"
        raise BadPilotOption(option=name, value=", ".join(map(str, values)) or "nothing", problem=problem)
