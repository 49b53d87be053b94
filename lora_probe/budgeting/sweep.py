"""What every target set costs at every rank, or the largest rank that a limit leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.choice import choose, lora_arguments
from lora_probe.budgeting.common import common_costs
from lora_probe.budgeting.cost import SetCost
from lora_probe.budgeting.limits import BYTES, PARAMETERS, Limit, read_bytes, read_count
from lora_probe.budgeting.observations import observe
from lora_probe.budgeting.ranks import RANKS, read_ranks, read_set_at_rank
from lora_probe.budgeting.records import Budget, By, Row, Unfit
from lora_probe.budgeting.split import split
from lora_probe.errors import ConflictingOptions, UnknownChoice
from lora_probe.peft_rules import Inventory
from lora_probe.targets import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from lora_probe.budgeting.choice import LoraOptions
    from lora_probe.graph import ModuleGraph, Note

__all__ = ["budget"]

_DTYPES = ("float32", "bfloat16", "float16")
"""In which adapters are trained."""


def budget(
    graph: ModuleGraph,
    targets: TargetSpec | str | Sequence[TargetSpec | str] | None = None,
    ranks: int | Sequence[int] | None = None,
    *,
    max_parameters: int | str | None = None,
    max_adapter_size: int | str | None = None,
    equal_to: str | None = None,
    by: By | str | None = None,
    dtype: str = "float32",
    **options: Unpack[LoraOptions],
) -> Budget:
    """Return what each of `targets` costs at each of `ranks`, or the largest rank that a limit leaves it.

    Args:
        graph: The model, as `scan` returns it.
        targets: Target sets in the grammar of `resolve`; by default the presets that the model has.
        ranks: 8, 16 and 32 by default.
        max_parameters: One row a set, for the largest rank that trains no more elements than this: of `ranks`
            where they are given, else of all up to the one at which an update is of full rank. A text may
            have a unit: ``18M``, ``18Mi``.
        max_adapter_size: The same for the bytes of the adapter's file: ``50MB``, ``48MiB``.
        equal_to: The same for the parameters that another set trains, written ``SPEC:r=N``.
        by: Split each row by ``role``, by ``layer`` or by both (``role-layer``), into `Budget.parts`.
        dtype: Element type in which the adapters are stored. PEFT makes them float32, whatever the model is,
            unless it is told `autocast_adapter_dtype=False`.
        **options: What else a `LoraConfig` says, by the names of :class:`LoraOptions`.

    Raises:
        LoraProbeError: A target set cannot be read or matches nothing; a rank is no positive whole number; an
            option is unknown or contradicts another; PEFT would refuse a set, or a rank for it.

    """
    if dtype not in _DTYPES:
        raise UnknownChoice(option="dtype", value=dtype, known=_DTYPES)
    if by is not None and by not in set(By):
        raise UnknownChoice(option="by", value=by, known=tuple(By))
    inventory, arguments = Inventory(graph), lora_arguments(options)
    costs, refusals = _costs(inventory, targets, options, dtype=dtype)
    limits = _limits(inventory, max_parameters, max_adapter_size, equal_to, dtype=dtype, options=options)
    given = read_ranks(ranks) if ranks is not None else () if limits else RANKS
    asked = _Asked(ranks=given, limit=next(iter(limits), None), whole=graph.total_parameters)
    rows = {text: tuple(_rows(text, cost, asked)) for text, cost in costs.items()}
    unfit = (_unfit(text, cost, asked) for text, cost in costs.items() if not rows[text])
    parts = (
        part
        for text, cost in costs.items()
        for row in rows[text]
        for part in (split(cost, text, row.rank, By(by)) if by is not None else ())
    )
    notes = (
        note
        for text, cost in costs.items()
        for note in observe(cost, text, rank=max((row.rank for row in rows[text]), default=cost.unit))
    )
    return Budget(
        model=graph.model,
        source=graph.source,
        architecture=graph.architecture,
        model_type=graph.model_type,
        total_parameters=graph.total_parameters,
        dtype=dtype,
        options=arguments,
        limit=asked.limit,
        ranks=given,
        sets=tuple(cost.summary(text) for text, cost in costs.items()),
        rows=tuple(row for of_set in rows.values() for row in of_set),
        unfit=tuple(unfit),
        by=None if by is None else By(by),
        parts=tuple(parts),
        notes=tuple(dict.fromkeys((*graph.notes, *refusals, *notes))),
        versions=dict(graph.versions),
    )


def _costs(
    inventory: Inventory,
    targets: TargetSpec | str | Sequence[TargetSpec | str] | None,
    options: Mapping[str, Any],
    *,
    dtype: str,
) -> tuple[dict[str, SetCost], list[Note]]:
    """Return the cost of each set by its text, and what is to be said of sets that nobody named."""
    if targets is None:
        return common_costs(inventory, options, dtype=dtype)
    named = [targets] if isinstance(targets, (str, TargetSpec)) else targets
    choices = {str(each): choose(inventory, each, options) for each in named}
    return {
        text: SetCost(inventory, choice.settings, dtype=dtype, wanted=choice.sites)
        for text, choice in choices.items()
    }, []


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What a budget is to find out about each set."""

    ranks: tuple[int, ...]
    limit: Limit | None
    whole: int
    """Parameters of the model."""


def _limits(
    inventory: Inventory,
    max_parameters: int | str | None,
    max_adapter_size: int | str | None,
    equal_to: str | None,
    *,
    dtype: str,
    options: Mapping[str, Any],
) -> list[Limit]:
    """Return the limit that was given, if any.

    Raises:
        ConflictingOptions: there are several.

    """
    found: dict[str, Limit] = {}
    if max_parameters is not None:
        found["max_parameters"] = Limit(
            unit=PARAMETERS, value=read_count(max_parameters, option="max_parameters")
        )
    if max_adapter_size is not None:
        found["max_adapter_size"] = Limit(
            unit=BYTES, value=read_bytes(max_adapter_size, option="max_adapter_size")
        )
    if equal_to is not None:
        text, rank = read_set_at_rank(equal_to)
        cost = SetCost(inventory, choose(inventory, text, options).settings, dtype=dtype)
        cost.check(rank)
        found["equal_to"] = Limit(unit=PARAMETERS, value=cost.trainable_parameters(rank), equal_to=equal_to)
    if len(found) > 1:
        raise ConflictingOptions(options=tuple(found), problem="only one of them can be the limit")
    return list(found.values())


def _rows(text: str, cost: SetCost, asked: _Asked) -> Iterator[Row]:
    """Yield the rows of one set: one for each rank; under a limit the one that it leaves, or none."""
    for rank in asked.ranks:
        cost.check(rank)
    for rank in _fitting(cost, asked):
        parameters = cost.trainable_parameters(rank)
        yield Row(
            targets=text,
            rank=rank,
            sites=len(cost.sites),
            trainable_parameters=parameters,
            share=parameters / asked.whole if asked.whole else 0.0,
            adapter_bytes=cost.adapter_bytes(rank),
            target_modules=cost.settings.target_modules,
            target_parameters=cost.settings.target_parameters,
            layers_to_transform=cost.layers,
            left_over=asked.limit.value - _measure(cost, asked.limit)(rank) if asked.limit else None,
        )


def _fitting(cost: SetCost, asked: _Asked) -> tuple[int, ...]:
    if asked.limit is None:
        return asked.ranks
    measure, most = _measure(cost, asked.limit), asked.limit.value
    if asked.ranks:
        largest = max((rank for rank in asked.ranks if measure(rank) <= most), default=0)
    else:
        largest = cost.largest_rank(measure, most)
    return (largest,) if largest else ()


def _unfit(text: str, cost: SetCost, asked: _Asked) -> Unfit:
    assert asked.limit is not None  # noqa: S101 - without a limit every rank has its row
    rank = min(asked.ranks) if asked.ranks else cost.unit
    return Unfit(targets=text, rank=rank, least=_measure(cost, asked.limit)(rank))


def _measure(cost: SetCost, limit: Limit) -> Callable[[int], int]:
    return cost.trainable_parameters if limit.unit == PARAMETERS else cost.adapter_bytes
