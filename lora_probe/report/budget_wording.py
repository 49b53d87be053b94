"""What every report of a budget says in words, and the command that makes it again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lora_probe.budgeting.limits import BYTES, PARAMETERS
from lora_probe.budgeting.records import By
from lora_probe.report.numbers import exact, file_size, percent, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.budgeting.records import Budget, Row, TargetSet, Unfit

__all__ = [
    "DIGITS",
    "amount",
    "budget_facts",
    "budget_notes",
    "command",
    "limit_text",
    "peft_call",
    "set_text",
    "unfit_text",
    "verdict",
]

DIGITS = 2
"""Of a share: adapters are small parts of a model."""


def budget_facts(budget: Budget) -> list[str]:
    """Return what the costs are of, from the most to the least telling."""
    known = [
        budget.architecture,
        budget.model_type,
        f"{exact(budget.total_parameters)} parameters",
        f"adapters stored as {budget.dtype}",
        *(f"{name} = {_value(value)}" for name, value in budget.options.items()),
    ]
    return [fact for fact in known if fact]


def verdict(budget: Budget) -> str:
    """Return the sentence that a person came for: what the choices cost, or which of them fit."""
    if budget.limit is not None:
        return " ".join(_under_limit(budget))
    if not budget.rows:
        return "There is nothing to count: there is no target set."
    cheapest = min(budget.rows, key=lambda row: row.trainable_parameters)
    dearest = max(budget.rows, key=lambda row: row.trainable_parameters)
    if cheapest is dearest:
        return f"LoRA on {_place(cheapest)} trains {_cost(cheapest, budget)}."
    return (
        f"LoRA costs from {_cost(cheapest, budget)} on {_place(cheapest)}, "
        f"to {_cost(dearest, budget)} on {_place(dearest)}."
    )


def limit_text(budget: Budget) -> str:
    """Return the limit as a person says it; empty where there is none."""
    limit = budget.limit
    if limit is None:
        return ""
    if limit.equal_to is not None:
        return f"{exact(limit.value)} parameters, as many as {limit.equal_to},"
    short_form = f"{file_size(limit.value)} (" if limit.unit == BYTES else ""
    return f"{short_form}{amount(limit.value, budget)}{')' if short_form else ''}"


def amount(value: int, budget: Budget) -> str:
    """Return a cost in the unit of the budget's limit, with every digit."""
    unit = "parameters" if budget.limit is None or budget.limit.unit == PARAMETERS else "bytes"
    return f"{exact(value)} {unit}"


def unfit_text(unfit: Unfit, budget: Budget) -> str:
    """Return why a set has no row."""
    return f"{unfit.targets} does not fit: r={unfit.rank} already takes {amount(unfit.least, budget)}"


def budget_notes(budget: Budget) -> list[str]:
    """Return what a reader should know beyond the numbers."""
    return [note.message for note in budget.notes]


def set_text(chosen: TargetSet) -> str:
    """Return what a set is: its weights, and what PEFT is told."""
    weights = "1 weight" if chosen.sites == 1 else f"{exact(chosen.sites)} weights"
    told = "; ".join(
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in _targets(chosen).items()
        if value
    )
    return f"{weights}: {told}"


def peft_call(chosen: TargetSet, budget: Budget) -> str:
    """Return the call of `LoraConfig` that makes this set, at the highest rank of its rows."""
    rank = max(row.rank for row in budget.rows if row.targets == chosen.targets)
    arguments = {"r": rank, **_targets(chosen), **budget.options}
    return f"LoraConfig({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def command(budget: Budget) -> str:
    """Return the command line that makes this budget again, quoted for a shell."""
    words = ["lora-probe", "budget", budget.model]
    for chosen in budget.sets:
        words += ["--targets", chosen.targets]
    if budget.ranks:
        words += ["-r", ",".join(map(str, budget.ranks))]
    if budget.limit is not None:
        limit = budget.limit
        if limit.equal_to is not None:
            words += ["--equal-to", limit.equal_to]
        elif limit.unit == PARAMETERS:
            words += ["--max-parameters", str(limit.value)]
        else:
            words += ["--max-adapter-size", _exact_size(limit.value)]
    if budget.by is not None and budget.by is not By.BOTH:
        words += ["--by", budget.by]
    if budget.dtype != "float32":
        words += ["--dtype", budget.dtype]
    return shlex.join([*words, *_option_words(budget)])


def _targets(chosen: TargetSet) -> dict[str, object]:
    """Return the arguments of `LoraConfig` that say which weights are adapted, as JSON types."""
    found: dict[str, object] = {}
    if chosen.target_modules is not None:  # an empty list counts: without it PEFT takes its default
        modules = chosen.target_modules
        found["target_modules"] = modules if isinstance(modules, str) else list(modules)
    if chosen.target_parameters:
        found["target_parameters"] = list(chosen.target_parameters)
    if chosen.layers_to_transform is not None:
        found["layers_to_transform"] = list(chosen.layers_to_transform)
    return found


def _option_words(budget: Budget) -> Iterator[str]:
    """Yield the options of the command line for the arguments of `LoraConfig`."""
    for name, value in budget.options.items():
        option = _OPTIONS[name]
        if value is True:
            yield option
        elif name == "trainable_token_indices":
            named = value.items() if isinstance(value, dict) else [("", value)]
            for module, indices in named:
                yield from (option, f"{module}{'=' if module else ''}{','.join(map(str, indices))}")
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from (option, f"{key}={each}")
        else:
            yield from (option, ",".join(value) if isinstance(value, list) else str(value))


_OPTIONS = {
    "use_dora": "--dora",
    "use_rslora": "--rslora",
    "bias": "--bias",
    "lora_bias": "--lora-bias",
    "modules_to_save": "--modules-to-save",
    "trainable_token_indices": "--trainable-tokens",
    "ensure_weight_tying": "--tie-weights",
    "rank_pattern": "--rank-pattern",
    "task_type": "--task-type",
}


def _under_limit(budget: Budget) -> Iterator[str]:
    if not budget.rows:
        yield f"Nothing fits under {limit_text(budget)}, not even at the smallest rank."
    else:
        fitting = "; ".join(_place(row) for row in budget.rows)
        yield f"Under {limit_text(budget)} fit: {fitting}."
        if budget.unfit:
            yield f"At no rank fit: {'; '.join(unfit.targets for unfit in budget.unfit)}."


def _cost(row: Row, budget: Budget) -> str:
    share = percent(row.trainable_parameters, budget.total_parameters, digits=DIGITS)
    size = file_size(row.adapter_bytes)
    return f"{short(row.trainable_parameters)} parameters ({share} of the model, a file of {size})"


def _place(row: Row) -> str:
    return f"{row.targets} at r={row.rank}"


def _exact_size(size: int) -> str:
    """Return `size` bytes as the command line reads it, in the largest unit that is exact."""
    power, units = 0, ("B", "kB", "MB", "GB", "TB")
    while size % 1000 == 0 and power < len(units) - 1:
        size, power = size // 1000, power + 1
    return f"{size}{units[power]}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
