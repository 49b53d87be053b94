"""The arms of a pilot: target sets at the ranks that make them fair rivals, and references beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.choice import choose
from lora_probe.budgeting.cost import SetCost
from lora_probe.budgeting.limits import read_count
from lora_probe.budgeting.ranks import read_ranks, read_set_at_rank
from lora_probe.budgeting.unused import check_saved
from lora_probe.errors import ConflictingOptions, NotExpressible, PeftRefusal, UnknownChoice, UnmatchedTarget
from lora_probe.graph import Adaptable, Note
from lora_probe.peft_rules import ALL_LINEAR, Inventory
from lora_probe.piloting.errors import BadPilotOption
from lora_probe.piloting.ranges import within
from lora_probe.piloting.records import Arm, Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from lora_probe.budgeting.choice import LoraOptions
    from lora_probe.graph import ModuleGraph

__all__ = ["Proposal", "propose_candidates"]

_SETS = {
    "qv": ("attention.q", "attention.v"),
    "attention": ("attention",),
    "ssm": ("ssm",),
    "recurrent": ("recurrent",),
    "mlp": ("mlp",),
    "o+down": ("attention.o", "mlp.down"),
    "v+o+down": ("attention.v", "attention.o", "mlp.down"),
}
"""What the literature disagrees about (the LoRA paper's Table 5, LoRA Without Regret, PLoP), as roles by
name; all-linear comes last."""
_UNSPENT = 0.05
"""Share of the common budget from which on it is worth a word that a set cannot spend it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """The arms of a pilot, and how they came about."""

    candidates: tuple[Candidate, ...]
    """The base first, then the target sets, then full fine-tuning where it was asked for."""
    limit: int | None
    """Elements that every set may train; None where ranks are equal."""
    notes: tuple[Note, ...]


def propose_candidates(
    graph: ModuleGraph,
    targets: Sequence[str] | None = None,
    *,
    proposed: Sequence[str] = (),
    equal: str = "parameters",
    rank: int = 8,
    max_parameters: int | str | None = None,
    alpha_over_rank: float = 2.0,
    dropout: float = 0.0,
    full: bool = False,
    **options: Unpack[LoraOptions],
) -> Proposal:
    """Return the arms of a pilot on the model of `graph`.

    Args:
        graph: The model, as `scan` returns it.
        targets: Target sets in the grammar of `resolve`, each with a rank of its own where it ends in
            ``:r=N``; by default the sets that people argue about, as far as the model has them.
        proposed: Sets beside those, of which each is left out that PEFT refuses or that is there already.
        equal: What the sets have in common: ``parameters``, each getting the largest rank within a budget, or
            ``rank``.
        rank: The common rank; among equal parameters that of the largest set, whose cost is the budget.
        max_parameters: The budget itself: ``2M``.
        alpha_over_rank: ``lora_alpha / r``, the same for all sets.
        dropout: `lora_dropout` of all sets.
        full: Whether full fine-tuning is run beside them.
        **options: What else a `LoraConfig` says, by the names of :class:`LoraOptions`.

    Raises:
        LoraProbeError: A set cannot be read, matches nothing or is beyond the budget; two have one name; a
            rank or a number is none; PEFT would refuse a set.

    """
    if equal not in ("parameters", "rank"):
        raise UnknownChoice(option="equal", value=equal, known=("parameters", "rank"))
    if equal == "rank" and max_parameters is not None:
        raise ConflictingOptions(
            options=("equal='rank'", "max_parameters"), problem="a budget is for equal parameters"
        )
    within(alpha_over_rank, "alpha_over_rank", "greater than 0", lambda value: value > 0)
    (rank,) = read_ranks(rank, where="rank")
    inventory = Inventory(graph)
    asked, notes = (
        _common(inventory, options) if targets is None else (_named(inventory, targets, options), [])
    )
    asked += _new(inventory, proposed, asked, options)
    limit = _limit(asked, rank, max_parameters) if equal == "parameters" else None
    made = [
        _candidate(each, rank=rank, limit=limit, alpha_over_rank=alpha_over_rank, dropout=dropout)
        for each in asked
    ]
    references = [Candidate(name=str(Arm.FULL), arm=Arm.FULL, trainable_parameters=graph.total_parameters)]
    return Proposal(
        candidates=(Candidate(name=str(Arm.BASE), arm=Arm.BASE), *made, *(references if full else ())),
        limit=limit,
        notes=(*notes, *_notes(made, limit)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """One target set with its cost at every rank."""

    name: str
    targets: str
    rank: int | None
    """A rank of its own."""
    cost: SetCost


def _named(inventory: Inventory, targets: Sequence[str], options: Mapping[str, Any]) -> list[_Asked]:
    """Return the sets that were asked for, with what PEFT would do for them."""
    found: dict[str, _Asked] = {}
    for name in targets:
        if name in (*found, Arm.BASE, Arm.FULL):
            problem = "is given twice" if name in found else "is the name of another arm"
            raise BadPilotOption(option="a candidate", value=name, problem=problem)
        text, rank = read_set_at_rank(name) if ":r=" in name else (name, None)
        found[name] = _Asked(name=name, targets=text, rank=rank, cost=_cost(inventory, text, options))
    if not found:
        raise BadPilotOption(option="candidates", value="none", problem="must be at least one")
    return list(found.values())


def _common(inventory: Inventory, options: Mapping[str, Any]) -> tuple[list[_Asked], list[Note]]:
    """Return the sets that nobody needs to name, no two of equal weights, and which are left out.

    Of a model with several towers the language model's are meant, except by all-linear, which is PEFT's.
    That is left out where it reaches into experts: at equal parameters their number blows up other ranks.

    Raises:
        PeftRefusal: PEFT would refuse all-linear and every other set.
        UnmatchedTarget: the model has no linear layer.

    """
    towers = {site.tower for site in inventory.graph.sites}
    tower = "text:" if "text" in towers and len(towers) > 1 else ""
    texts = {name: "+".join(f"{tower}{role}" for role in roles) for name, roles in _SETS.items()}
    found: dict[frozenset[str], _Asked] = {}
    notes = []
    for name, text in {**texts, ALL_LINEAR: ALL_LINEAR}.items():
        cost = _cost_or_refusal(inventory, text, options)
        if isinstance(cost, SetCost):
            if name == ALL_LINEAR and found and any(site.block == "experts" for site in cost.sites):
                message = f"{name} is left out: it reaches into experts; name it to have it compared"
                notes.append(Note(code="experts-left-out", message=message))
                continue
            found.setdefault(_weights(cost), _Asked(name=name, targets=text, rank=None, cost=cost))
        elif name == ALL_LINEAR and not found:
            raise cost
        elif not isinstance(cost, UnmatchedTarget):
            notes.append(Note(code="set-refused", message=f"{name} is left out: {cost}"))
    return list(found.values()), notes


def _new(
    inventory: Inventory, proposed: Sequence[str], asked: Sequence[_Asked], options: Mapping[str, Any]
) -> list[_Asked]:
    """Return the proposed sets of weights that are no set yet."""
    known = {_weights(each.cost) for each in asked}
    found = []
    for text in proposed:
        cost = _cost_or_refusal(inventory, text, options)
        if isinstance(cost, SetCost) and _weights(cost) not in known:
            known.add(_weights(cost))
            found.append(_Asked(name=text, targets=text, rank=None, cost=cost))
    return found


def _weights(cost: SetCost) -> frozenset[str]:
    return frozenset(site.parameter for site in cost.sites)


def _cost_or_refusal(
    inventory: Inventory, text: str, options: Mapping[str, Any]
) -> SetCost | UnmatchedTarget | NotExpressible | PeftRefusal:
    """Return the cost of one set, or why there is no such set on this model."""
    try:
        return _cost(inventory, text, options)
    except (UnmatchedTarget, NotExpressible, PeftRefusal) as refusal:
        return refusal


def _cost(inventory: Inventory, text: str, options: Mapping[str, Any]) -> SetCost:
    choice = choose(inventory, text, options)
    check_saved(choice.settings, inventory)
    return SetCost(inventory, choice.settings, dtype="float32", wanted=choice.sites)


def _limit(asked: Iterable[_Asked], rank: int, max_parameters: int | str | None) -> int | None:
    """Return the elements that each set may train: given, or what the largest set costs at `rank`."""
    if max_parameters is not None:
        return read_count(max_parameters, option="max_parameters")
    free = [each.cost for each in asked if each.rank is None]
    return max((cost.trainable_parameters(_multiple(rank, cost.unit)) for cost in free), default=None)


def _multiple(rank: int, unit: int) -> int:
    """Return the smallest rank from `rank` on that every convolution of a set accepts."""
    return -(-rank // unit) * unit


def _candidate(
    asked: _Asked, *, rank: int, limit: int | None, alpha_over_rank: float, dropout: float
) -> Candidate:
    cost = asked.cost
    solved = asked.rank is None and limit is not None
    if solved:
        chosen = cost.largest_rank(cost.trainable_parameters, limit or 0)
        if not chosen:
            least = cost.trainable_parameters(cost.unit)
            raise BadPilotOption(
                option=f"the budget for {asked.name}",
                value=limit,
                problem=f"must be at least {least:,} parameters",
            )
    else:
        chosen = asked.rank or _multiple(rank, cost.unit)
        cost.check(chosen)
    settings = replace(cost.settings, rank=chosen, alpha=alpha_over_rank * chosen, dropout=dropout)
    parameters = cost.trainable_parameters(chosen)
    return Candidate(
        name=asked.name,
        targets=asked.targets,
        rank=chosen,
        alpha=settings.alpha,
        paths=tuple(dict.fromkeys(s.path for s in cost.sites if s.adaptable is Adaptable.MODULE)),
        parameters=tuple(s.parameter for s in cost.sites if s.adaptable is Adaptable.PARAMETER),
        trainable_parameters=parameters,
        left_over=limit - parameters if solved and limit is not None else None,
        lora=settings.to_lora_config(),
    )


def _notes(made: Iterable[Candidate], limit: int | None) -> Iterator[Note]:
    for each in made:
        if limit is None:
            continue
        if each.left_over is None:
            yield Note(
                code="own-rank",
                message=f"{each.name} trains {each.trainable_parameters:,} parameters at its own rank, "
                f"the others up to {limit:,}: they are not equal",
            )
        elif each.left_over > _UNSPENT * limit:
            yield Note(
                code="budget-unspent",
                message=f"{each.name} leaves {each.left_over:,} of {limit:,} parameters at rank {each.rank}: "
                "the next rank is beyond the budget, or of no more use",
            )
