"""Entries of a list that are alike (layers, experts) are decided once, which keeps large models fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.tree import is_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.roles.place import Place

__all__ = ["fold"]

_NESTING = 8
"""Lists within lists that are looked into; an absurd name with more numbers is decided by itself."""
MANY = 2
"""Weights below a numbered module that make it a part of its own, which no rule looks out of."""


def fold(places: Sequence[Place]) -> list[int]:
    """Return for each place the position of the place whose role it shares; its own if it is the first.

    Two entries of one list are alike where they hold the same weights: names below the index, classes, kinds
    and shapes, in the same order. Linear in places times the numbers in their paths.
    """
    alike = list(range(len(places)))
    segments = [place.path.split(".") for place in places]
    open_places = [(position, 0) for position in alike]
    for _ in range(_NESTING):
        entries: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        for position, start in open_places:
            at = _next_number(segments[position], start)
            if at is not None:
                entries.setdefault(tuple(segments[position][: at + 1]), []).append((position, at + 1))
        open_places = []
        first: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        for path, members in entries.items():
            if len(members) < MANY:
                open_places += members
                continue
            content = tuple(
                _content(places[position], segments[position], start) for position, start in members
            )
            twin = first.setdefault((path[:-1], content), members)
            if twin is members:
                open_places += members
            for (position, _), (original, _) in zip(members, twin, strict=True):
                alike[position] = original
    for position, original in enumerate(alike):
        alike[position] = alike[original]  # an original may have found its own, within its entry
    return alike


def _next_number(segments: list[str], start: int) -> int | None:
    """Return the position of the next number that has something below it."""
    return next((at for at in range(start, len(segments) - 1) if is_index(segments[at])), None)


def _content(place: Place, segments: list[str], start: int) -> tuple[object, ...]:
    return (
        *segments[start:], place.classes[start:], place.parameter, place.kind, place.in_features,
        place.out_features, place.experts, place.is_input_embedding, place.is_output_embedding,
    )  # fmt: skip
