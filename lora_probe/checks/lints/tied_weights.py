"""An adapter or a copy on one of several modules that share a weight."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    prediction = case.prediction
    if prediction is None:
        return
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for site in case.graph.sites:
        groups[site.tied_to or site.parameter].append(site.path)
    changed = {adapter.module for adapter in prediction.adapters} | {copy.path for copy in prediction.saved}
    inside = []
    for paths in groups.values():
        if len(paths) == 1 or changed.isdisjoint(paths):
            continue
        if case.graph.input_embedding in paths or case.graph.output_embedding in paths:
            yield _embeddings(case, paths, changed)
        else:
            inside += [path for path in paths if path in changed]
    if inside:
        yield Hit(
            message=f"{len(inside)} adapters are on layers that share their weights with others: each learns "
            "a change of its own, and they cannot all be merged",
            paths=tuple(inside),
            fix="serve the adapter unmerged, or leave the shared layers out",
        )


def _embeddings(case: Case, paths: list[str], changed: set[str]) -> Hit:
    names = " and ".join(paths)
    if case.settings.ensure_weight_tying:
        return Hit(
            severity=Severity.INFO,
            message=f"{names} share one weight and one adapter; print_trainable_parameters counts it once "
            "for each",
            paths=tuple(paths),
            fix="nothing to repair: the count here is the right one",
        )
    rest = [path for path in paths if path not in changed]
    kept = f"{' and '.join(rest)} {'keeps' if len(rest) == 1 else 'keep'} the old weight"
    what = kept if rest else "each gets a change of its own"
    return Hit(
        message=f"{names} are one weight, but {what}: merging changes the other, too, or unties them",
        paths=tuple(paths),
        fix="set ensure_weight_tying=True, or leave them out",
    )


RULE = Rule(
    name="tied-weights",
    severity=Severity.WARNING,
    happens="Input and output embedding, one weight in the base model, drift apart in training; merged and "
    "saved as tied again, the result is wrong.",
    why="PEFT wraps each module by itself and knows nothing of the sharing unless ensure_weight_tying is "
    "set.",
    fix="Set ensure_weight_tying=True, or adapt neither.",
    sources=("huggingface/peft#2018", "huggingface/peft#2864"),
    examine=_examine,
)
