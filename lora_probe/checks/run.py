"""Checking one target set on one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.budgeting.count import trainable_parameters
from lora_probe.checks.adapter import SavedAdapter, read_adapter
from lora_probe.checks.case import Case
from lora_probe.checks.records import Findings, Severity
from lora_probe.checks.registry import rules
from lora_probe.checks.request import Request, check_rank, read_request
from lora_probe.checks.serving import find_engines
from lora_probe.errors import PeftRefusal
from lora_probe.peft_rules import Inventory, predict
from lora_probe.peft_rules.matching import compiled

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from lora_probe.graph import ModuleGraph

__all__ = ["check"]

LARGEST_SHARE = 0.2
"""From a fifth of the model on, an adapter is no longer what people call parameter-efficient."""
_ORDER = tuple(Severity)


def check(
    graph: ModuleGraph,
    targets: object = None,
    *,
    rank: int = 8,
    adapter: str | os.PathLike[str] | None = None,
    serve: Iterable[str] = (),
    largest_share: float = LARGEST_SHARE,
    **options: Any,
) -> Findings:
    """Return what PEFT will really do with `targets` on the model, and what a server will make of it.

    `targets` may be everything that people hand to PEFT (`lora_probe.checks.request.read_request`); left
    out, it is what the config of `adapter` says. `rank` is r; `options` are the other fields of
    `lora_probe.peft_rules.LoraSettings`. `adapter` is a folder with a trained adapter to compare with the
    model; of its tensors only the header is read. `serve` names the serving engines that should load the
    result. `largest_share` is the share of the model from which on an adapter is reported as large.

    Raises:
        BadTargets, BadRank, BadAdapter, UnknownEngine: what was given cannot be read; says why.

    """
    engines = find_engines(serve)
    saved = None if adapter is None else read_adapter(adapter)
    inventory = Inventory(graph)
    request = _request(graph, targets, saved, rank=rank, options=options)
    prediction, refusal = None, None
    try:
        prediction = predict(inventory, request.settings)
        for key in request.settings.alpha_pattern:  # which decides no shape, so that a prediction ignores it
            compiled(key, field="alpha_pattern")
    except PeftRefusal as error:
        refusal = error
    case = Case(
        inventory=inventory,
        request=request,
        prediction=prediction,
        refusal=refusal,
        trainable_parameters=trainable_parameters(prediction, inventory) if prediction else 0,
        largest_share=largest_share,
        adapter=saved,
        engines=engines,
    )
    found = [finding for rule in rules().values() for finding in rule.findings(case)]
    return Findings(
        model=graph.model,
        targets=request.text,
        rank=request.settings.rank,
        matched=len(case.adapters),
        trainable_parameters=case.trainable_parameters,
        total_parameters=graph.total_parameters,
        settings=request.settings,
        findings=tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity))),
    )


def _request(
    graph: ModuleGraph, targets: object, saved: SavedAdapter | None, *, rank: int, options: dict[str, Any]
) -> Request:
    if targets is None and saved is not None:
        return read_request(graph, saved.settings, rank=rank, options=options)
    check_rank(rank)
    return read_request(graph, targets, rank=rank, options=options)
