"""An entry of a list that matches nothing."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lora_probe.checks.lints.experts_missed import EXPERT_NAMES
from lora_probe.checks.near import parameter_names, quoted, suggestion
from lora_probe.checks.records import Severity
from lora_probe.checks.renames import new_names
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Adaptable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lora_probe.checks.case import Case


_SHOWN = 6
_MOST = 20
"""Names that are reported one by one; who has more of them has another model."""


def _examine(case: Case) -> Iterator[Hit]:
    lost = [name for name in case.names if not case.matches(name) and name not in case.renamed]
    yield from _many("target_modules", lost) if len(lost) > _MOST else _modules(case)
    known = case.inventory.parameter_names
    lost = [name for name in case.settings.target_parameters if not known.ending_with((name,))]
    yield from _many("target_parameters", lost) if len(lost) > _MOST else _parameters(case, lost)
    paths = case.inventory.paths
    lost = [name for name in case.settings.modules_to_save if not any(path.endswith(name) for path in paths)]
    yield from _many("modules_to_save", lost) if len(lost) > _MOST else _saved(case, lost)


def _many(field: str, lost: Sequence[str]) -> Iterator[Hit]:
    yield Hit(
        message=f"{len(lost):,} entries of {field} match nothing, first {quoted(lost[:_SHOWN])}",
        fix="check that they are names of this model: lora-probe scan lists them",
    )


def _modules(case: Case) -> Iterator[Hit]:
    for name in case.names:
        found = case.literally(replace(case.settings, target_modules=(name,)))
        if name in case.renamed or (not found and new_names(case.graph, name)):
            continue
        if not found and _is_expert(case, name):
            if any(site.block == "experts" for site in case.sites):  # else another rule says what to do
                yield Hit(
                    severity=Severity.INFO,
                    message=f"target_modules entry {name!r} matches no module; the experts, which it may "
                    "mean, are adapted as target_parameters",
                    fix=f"drop {name!r}",
                )
        elif not found and case.matches(name):
            yield Hit(message=f"target_modules entry {name!r} matches only layers that are not transformed")
        elif not found:
            silently = "" if case.prediction is None else ", and PEFT does not say so"
            yield Hit(
                message=f"target_modules entry {name!r} matches no module{silently}",
                fix=suggestion(case, name),
            )
        elif case.left_out.issuperset(found) and not case.request.is_exact:
            yield Hit(
                severity=Severity.WARNING,
                message=f"everything that target_modules entry {name!r} matches is excluded or saved in full",
                paths=tuple(found),
                fix=f"drop {name!r}, or take it out of exclude_modules and modules_to_save",
            )


def _parameters(case: Case, lost: Sequence[str]) -> Iterator[Hit]:
    known = parameter_names(case.graph.sites)
    for name in lost:
        near = get_close_matches(name, known, n=3)
        yield Hit(
            message=f"target_parameters entry {name!r} matches no parameter",
            fix=f"close names here: {quoted(near)}"
            if near
            else "write the end of a parameter's full name, such as experts.down_proj",
        )


def _saved(case: Case, lost: Sequence[str]) -> Iterator[Hit]:
    for name in lost:
        yield Hit(message=f"modules_to_save entry {name!r} matches no module", fix=suggestion(case, name))


def _is_expert(case: Case, name: str) -> bool:
    """Tell whether `name` is that of experts that are parameters here."""
    return name.rpartition(".")[2] in EXPERT_NAMES and any(
        site.block == "experts" and site.adaptable is Adaptable.PARAMETER for site in case.graph.sites
    )


RULE = Rule(
    name="unmatched-name",
    severity=Severity.ERROR,
    happens="One of several names matches no module. Training runs, without the layers that the name was "
    "for.",
    why="PEFT raises only when no name at all matches; one that matches nothing is dropped without a word.",
    fix="Write the name that this model has for the layer: lora-probe scan lists them.",
    sources=("huggingface/peft#1959", "hiyouga/LlamaFactory#1785", "hiyouga/LlamaFactory#4020"),
    examine=_examine,
)
