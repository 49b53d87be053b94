"""The low-rank matrices of all trials of a pass, in few flat buffers.

Modules that the same slice of the stack adapts share one buffer of shape (slice, elements of one trial): a
module sees its A and B as strided views for batched products, the optimizer sees one contiguous row per
trial. Ranks below the largest in a slice, and trials that only stand between others, are zeros: their
gradients are exactly zero, and so they stay.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lora_probe.piloting.engine.arrangement import span
from lora_probe.piloting.engine.initial import initial_a

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

__all__ = ["Adapters", "Buffer", "Dimensions", "Shape", "Slot"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One adapted module of one trial."""

    rank: int
    scale: float
    """alpha/r, or alpha/sqrt(r) with rsLoRA."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimensions:
    """What a module's matrices must fit: its features, and where its weight lies."""

    in_features: int
    out_features: int
    device: torch.device


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matrices:
    """A and the transposed B, (slice, rank, in_features) and (slice, rank, out_features): float32 views."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Slot:
    """The matrices of one module for a slice of the stack."""

    path: str
    start: int
    stop: int
    shapes: Mapping[int, Shape]
    """By place in the stack; what is missing within the slice does not adapt the module."""
    scale: float | Tensor
    """One number where it is the same for all of them, else (slice, 1, 1)."""
    value: Matrices
    gradient: Matrices
    first: Matrices
    """AdamW's mean of gradients."""
    second: Matrices
    """AdamW's mean of squared gradients."""

    def of_trial(self, place: int) -> Iterator[tuple[str, Tensor]]:
        """Yield what is kept of the trial at `place`, named: views without padding, B still transposed."""
        at, rank = place - self.start, self.shapes[place].rank
        for name in ("value", "first", "second"):
            matrices: Matrices = getattr(self, name)
            yield f"{name}.A/{self.path}", matrices.a[at, :rank]
            yield f"{name}.B/{self.path}", matrices.b[at, :rank]


class Buffer:
    """The rows of one slice: values, gradients and both moments, each (slice, elements), float32."""

    def __init__(self, start: int, stop: int, elements: int, device: torch.device) -> None:
        self.start, self.stop = start, stop
        self.planes = {
            name: torch.zeros(stop - start, elements, device=device)
            for name in ("value", "gradient", "first", "second")
        }
        self._used = 0

    def slot(self, path: str, dimensions: Dimensions, shapes: Mapping[int, Shape]) -> Slot:
        """Take the next elements of every row for a module."""
        rank = max(shape.rank for shape in shapes.values())
        a, b = (self._take(rank, size) for size in (dimensions.in_features, dimensions.out_features))
        views = {
            name: Matrices(
                a=plane[:, a].view(len(plane), rank, dimensions.in_features),
                b=plane[:, b].view(len(plane), rank, dimensions.out_features),
            )
            for name, plane in self.planes.items()
        }
        return Slot(
            path=path, start=self.start, stop=self.stop, shapes=shapes, scale=self._scale(shapes), **views
        )

    def _take(self, rank: int, features: int) -> slice:
        start, self._used = self._used, self._used + rank * features
        return slice(start, self._used)

    def _scale(self, shapes: Mapping[int, Shape]) -> float | Tensor:
        different = {shape.scale for shape in shapes.values()}
        if len(different) == 1:
            return different.pop()
        scales = [shapes[place].scale if place in shapes else 0.0 for place in range(self.start, self.stop)]
        return torch.tensor(scales, device=self.planes["value"].device)[:, None, None]


class Adapters:
    """All trainable parameters of a stack, each on its module's device, as PEFT starts them."""

    def __init__(
        self,
        dimensions: Mapping[str, Dimensions],
        shapes: Mapping[str, Mapping[int, Shape]],
        seeds: Sequence[int],
    ) -> None:
        """Lay out the modules of `shapes`: by path, then by place in the stack; `seeds` are by place."""
        alike: defaultdict[tuple[int, int, torch.device], list[str]] = defaultdict(list)
        for path, by_place in shapes.items():
            alike[(*span(by_place), dimensions[path].device)].append(path)
        self.buffers: list[Buffer] = []
        self.slots: dict[str, Slot] = {}
        for (start, stop, device), paths in alike.items():
            elements = sum(
                max(shape.rank for shape in shapes[path].values())
                * (dimensions[path].in_features + dimensions[path].out_features)
                for path in paths
            )
            buffer = Buffer(start, stop, elements, device)
            self.buffers.append(buffer)
            self.slots.update((path, buffer.slot(path, dimensions[path], shapes[path])) for path in paths)
        for path, slot in self.slots.items():
            for place, shape in slot.shapes.items():
                first = initial_a(
                    path, seed=seeds[place], rank=shape.rank, in_features=dimensions[path].in_features
                )
                slot.value.a[place - slot.start, : shape.rank] = first

    def of_trial(self, place: int) -> dict[str, Tensor]:
        """Return everything that is kept of one trial, by name: views without padding."""
        slots = (slot for slot in self.slots.values() if place in slot.shapes)
        return {name: tensor for slot in slots for name, tensor in slot.of_trial(place)}

    def rows(self, place: int) -> Iterator[tuple[Buffer, int]]:
        """Yield the buffers that hold something of the trial at `place`, each with the row."""
        adapting = {
            (slot.start, slot.stop, slot.value.a.device)
            for slot in self.slots.values()
            if place in slot.shapes
        }
        for buffer in self.buffers:
            if (buffer.start, buffer.stop, buffer.planes["value"].device) in adapting:
                yield buffer, place - buffer.start
