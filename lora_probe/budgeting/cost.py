"""What one target set costs at any rank: worked out once, then evaluated.

Every size is a straight line in the rank: one side of each factor is as long as that, or a multiple of it. So
PEFT is predicted once, at a rank so high that no other size reaches it. What comes out is written in the base
of that rank: the quotient is what grows, the remainder what does not.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from math import lcm
from typing import TYPE_CHECKING

from lora_probe.budgeting.count import Origin, trainable_tensors
from lora_probe.budgeting.file_size import FileSize, GrowingTensor
from lora_probe.budgeting.records import TargetSet
from lora_probe.budgeting.stored import stored_tensors
from lora_probe.graph import Kind
from lora_probe.peft_rules import predict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lora_probe.budgeting.count import AdapterTensor
    from lora_probe.graph import Site
    from lora_probe.peft_rules import Inventory, LoraSettings

__all__ = ["Line", "SetCost", "Share"]

FAR = 2**61 - 1
"""A step of the rank that is beyond any size of a model, and beyond any product of two of them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A size that grows by `step` with each step of the rank."""

    base: int
    step: int

    @classmethod
    def read_off(cls, size_at_far: int) -> Line:
        """Return the line of a size that was predicted at step `FAR`."""
        step, base = divmod(size_at_far, FAR)
        return cls(base=base, step=step)

    def __call__(self, n: int) -> int:
        """Return the size at step `n`."""
        return self.base + self.step * n

    def __add__(self, other: Line) -> Line:
        """Return the line of both sizes together."""
        return Line(self.base + other.base, self.step + other.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The trained elements that belong to one site, or to no site for one reason."""

    origin: Origin
    site: Site | None
    elements: Line


class SetCost:
    """The cost of one target set with some options, at every rank that PEFT takes for it."""

    def __init__(
        self, inventory: Inventory, settings: LoraSettings, *, dtype: str, wanted: Sequence[Site] = ()
    ) -> None:
        """Predict the set once; `wanted` are the weights that it is to adapt, where they are known.

        Raises:
            PeftRefusal: PEFT would refuse the set at any rank.

        """
        self._inventory = inventory
        self.settings = settings
        self.unit = _rank_unit(inventory, settings)
        """What every rank must be a multiple of: more than 1 only where convolutions have groups."""
        prediction = predict(inventory, replace(settings, rank=self.unit * FAR))
        self.sites = prediction.sites
        """The weights that get an adapter."""
        self.wanted = tuple(wanted) or self.sites
        self.copies = tuple(copy.path for copy in prediction.saved)
        """Modules that are trained in full."""
        self.warnings = prediction.warnings
        self.multiplied = tuple(each.key for each in prediction.adapters if each.rank > self.unit * FAR)
        """Names of what gets a multiple of the rank that is asked for."""
        trained = trainable_tensors(prediction, inventory)
        self.shares = tuple(_shares(trained))
        """The trained elements, by site or other reason; together they are all."""
        self._parameters = sum((share.elements for share in self.shares), start=Line(0, 0))
        stored = stored_tensors(trained, prediction, inventory, dtype=dtype)
        names = {each.name for each in trained}
        self.unasked_bytes = sum(each.bytes for each in stored if each.name not in names)
        """Bytes of what PEFT stores without training it, whatever the rank."""
        self._file = FileSize(
            GrowingTensor(name=each.name, dtype=each.dtype, shape=tuple(map(_growth, each.shape)))
            for each in stored
        )

    def summary(self, targets: str) -> TargetSet:
        """Return the record of this set under the name that it was asked for by."""
        return TargetSet(
            targets=targets,
            sites=len(self.sites),
            target_modules=self.settings.target_modules,
            target_parameters=self.settings.target_parameters,
            layers_to_transform=self.layers,
            rank_step=self.unit,
            full_rank=self.full_rank,
            fixed_parameters=self._parameters.base,
            parameters_per_step=self._parameters.step,
        )

    @property
    def layers(self) -> tuple[int, ...] | None:
        """The layers to which PEFT is told to keep, None for all."""
        layers = self.settings.layers_to_transform
        return (layers,) if isinstance(layers, int) else layers

    @property
    def full_rank(self) -> int:
        """The rank from which on every update is of full rank: the shorter side of the largest weight."""
        return max(
            (min(site.in_features, site.out_features) for site in self.sites),
            default=1,
        )

    def check(self, rank: int) -> None:
        """Return where PEFT takes `rank` for this set.

        Raises:
            PeftRefusal: it does not.

        """
        if rank < 1 or rank % self.unit:
            predict(self._inventory, replace(self.settings, rank=rank))

    def elements(self, share: Share, rank: int) -> int:
        """Return the elements of one of `shares` at `rank`."""
        return share.elements(rank // self.unit)

    def trainable_parameters(self, rank: int) -> int:
        """Return the elements that are trained at `rank`; what shares storage is counted once."""
        return self._parameters(rank // self.unit)

    def adapter_bytes(self, rank: int) -> int:
        """Return the bytes of ``adapter_model.safetensors`` at `rank`, with its header."""
        return self._file(rank // self.unit)

    def largest_rank(self, cost: Callable[[int], int], limit: int) -> int:
        """Return the largest rank up to the full one at which `cost` is at most `limit`; 0 if there is none.

        `cost` is one of this object's methods: it never falls as the rank grows.
        """
        ranks = range(self.unit, max(self.full_rank, self.unit) + 1, self.unit)
        return self.unit * bisect_right(ranks, limit, key=cost)


def _rank_unit(inventory: Inventory, settings: LoraSettings) -> int:
    """Return what every rank must be a multiple of (`_ConvNd.update_layer` in peft/tuners/lora/layer.py)."""
    every = lcm(*(site.groups for site in inventory.graph.sites if site.kind is Kind.CONV))
    if every == 1:
        return 1
    adapters = predict(inventory, replace(settings, rank=every)).adapters
    return lcm(*(each.site.groups for each in adapters if each.site and each.rank % every == 0))


def _shares(trained: Iterable[AdapterTensor]) -> Iterable[Share]:
    """Yield the trained elements by site and reason, from the tensors at step `FAR`."""
    sites: dict[tuple[Origin, str], Site | None] = {}
    elements: dict[tuple[Origin, str], int] = {}
    for tensor in trained:
        if not tensor.tied:
            key = tensor.origin, tensor.site.parameter if tensor.site else ""
            sites[key] = tensor.site
            elements[key] = elements.get(key, 0) + tensor.elements
    for (origin, name), size in elements.items():
        yield Share(origin=origin, site=sites[origin, name], elements=Line.read_off(size))


def _growth(size: int) -> tuple[int, int]:
    step, base = divmod(size, FAR)
    return base, step
