"""What the limits of the engines ask about a target set; each returns the question for one engine."""

from __future__ import annotations

from collections import defaultdict
from math import isclose, sqrt
from typing import TYPE_CHECKING

from lora_probe.checks.rule import Hit
from lora_probe.graph import Kind
from lora_probe.peft_rules.layers import rank_of
from lora_probe.peft_rules.matching import pattern_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from lora_probe.checks.case import Case
    from lora_probe.checks.records import Severity
    from lora_probe.peft_rules import Adapter, LoraSettings

    Condition = Callable[[Case], Iterator[Hit]]

__all__ = [
    "adapters_where", "bias_trained", "dora_used", "expression_given", "is_embedding", "is_expert", "is_head",
    "layers_left_out", "leaf_of", "modules_saved", "one_scale", "other_leaves", "other_towers",
    "scales_differ", "tokens_trained",
]  # fmt: skip

_TEXT = frozenset({"text", "decoder", "encoder", "shared", "head"})


def dora_used(case: Case) -> Iterator[Hit]:
    """Find DoRA."""
    if case.settings.use_dora:
        yield Hit(message="use_dora is set", fix="train without use_dora")


def modules_saved(case: Case) -> Iterator[Hit]:
    """Find full copies of modules."""
    # What PEFT itself adds for the task type ends up in the adapter, too.
    saved = (case.prediction.settings if case.prediction else case.settings).modules_to_save
    if saved:
        yield Hit(
            message=f"modules_to_save is {', '.join(saved)}",
            paths=tuple(copy.path for copy in case.prediction.saved) if case.prediction else (),
            fix="drop modules_to_save, or merge the adapter into the model and serve that",
        )


def tokens_trained(case: Case) -> Iterator[Hit]:
    """Find single rows of the embedding that are trained."""
    if case.settings.trainable_token_indices is not None:
        yield Hit(
            message="trainable_token_indices is set",
            fix="drop trainable_token_indices, or merge the adapter into the model and serve that",
        )


def bias_trained(case: Case) -> Iterator[Hit]:
    """Find trained biases."""
    if case.settings.bias != "none" or case.settings.lora_bias:
        yield Hit(message="biases are trained", fix='set bias="none" and leave lora_bias out')


def expression_given(case: Case) -> Iterator[Hit]:
    """Find a regular expression in the place of a list."""
    target = case.settings.target_modules
    if isinstance(target, str) and not case.settings.is_all_linear and case.adapters:
        names = sorted(set(map(leaf_of, case.adapters)))
        yield Hit(
            message="target_modules is a regular expression",
            fix=f"in the adapter's config write the list of last segments: {', '.join(names)}",
        )


def adapters_where(holds: Callable[[Case, Adapter], bool], message: str, fix: str) -> Condition:
    """Return the question whether any adapter is of a sort."""

    def when(case: Case) -> Iterator[Hit]:
        found = [adapter for adapter in case.adapters if holds(case, adapter)]
        if found:
            names = ", ".join(dict.fromkeys(map(leaf_of, found)))
            yield Hit(
                message=f"{len(found)} {message} ({names})",
                paths=tuple(adapter.key for adapter in found),
                fix=fix,
            )

    return when


def is_expert(_case: Case, adapter: Adapter) -> bool:
    """Tell whether an adapter is on fused experts."""
    return adapter.site is not None and adapter.site.experts > 1


def is_head(case: Case, adapter: Adapter) -> bool:
    """Tell whether an adapter is on the output embedding."""
    return adapter.module == case.graph.output_embedding


def is_embedding(case: Case, adapter: Adapter) -> bool:
    """Tell whether an adapter is on the input or output embedding."""
    on_input = adapter.site is not None and adapter.site.kind is Kind.EMBEDDING
    return on_input or is_head(case, adapter)


def other_towers(fix: str) -> Condition:
    """Return the question whether adapters are outside of the language model."""

    def when(case: Case) -> Iterator[Hit]:
        found = [adapter for adapter in case.adapters if adapter.site and adapter.site.tower not in _TEXT]
        if found:
            towers = dict.fromkeys(adapter.site.tower for adapter in found if adapter.site)
            yield Hit(
                message=f"{len(found)} adapters are in other towers: {', '.join(towers)}",
                paths=tuple(adapter.key for adapter in found),
                fix=fix,
            )

    return when


def leaf_of(adapter: Adapter) -> str:
    """Return the name by which engines know an adapted layer."""
    return adapter.key.removesuffix(".weight").rpartition(".")[2]


def other_leaves(
    known: Collection[str], *, same: Mapping[str, str] | None = None, severity: Severity | None = None
) -> Condition:
    """Return the question whether layers are adapted whose names an engine does not know.

    `same` maps names onto those in `known`.
    """

    def when(case: Case) -> Iterator[Hit]:
        found = [
            adapter
            for adapter in case.adapters
            if adapter.site
            and adapter.site.tower in _TEXT
            and (same or {}).get(leaf_of(adapter), leaf_of(adapter)) not in known
        ]
        if found:
            names = ", ".join(dict.fromkeys(map(leaf_of, found)))
            yield Hit(
                severity=severity,
                message=f"{len(found)} adapters are on layers that it does not know: {names}",
                paths=tuple(adapter.key for adapter in found),
                fix=f"leave out {names}, or merge the adapter into the model and serve that",
            )

    return when


def layers_left_out(case: Case) -> Iterator[Hit]:
    """Find names that are adapted in some layers only."""
    total = len({site.layer for site in case.graph.sites if site.tower in _TEXT and site.layer is not None})
    layers: defaultdict[str, set[int]] = defaultdict(set)
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for adapter in case.adapters:
        if adapter.site and adapter.site.layer is not None and adapter.site.tower in _TEXT:
            leaf = leaf_of(adapter)
            layers[leaf].add(adapter.site.layer)
            paths[leaf].append(adapter.key)
    for leaf, covered in layers.items():
        if len(covered) < total:
            yield Hit(
                message=f"{leaf} is adapted in {len(covered)} of {total} layers, and is dropped in all of "
                "them",
                paths=tuple(paths[leaf]),
                fix=f"adapt {leaf} in every layer, or merge the adapter into the model and serve that",
            )


def one_scale(settings: LoraSettings, _rank: int) -> float:
    """Return alpha over r, or over its root with rsLoRA: the same for all layers, as the config has it."""
    return settings.alpha / (sqrt(settings.rank) if settings.use_rslora else settings.rank)


def scales_differ(
    scale: Callable[[LoraSettings, int], float], *, fix: str, one_fix: str | None = None
) -> Condition:
    """Return the question whether an engine multiplies an adapter by another number than PEFT does.

    `scale` is what the engine multiplies by, given the settings and the rank of one adapter. `one_fix` is the
    fix where one other ``{alpha}`` would do for all adapters.
    """

    def when(case: Case) -> Iterator[Hit]:
        if case.prediction is None:
            return
        settings = case.prediction.settings
        scales = {
            adapter.key: (_peft_scale(settings, adapter), scale(settings, adapter.rank))
            for adapter in case.adapters
        }
        wrong = {key: both for key, both in scales.items() if not isclose(*both)}
        if wrong:
            first, (meant, used) = next(iter(wrong.items()))
            alphas = {
                f"{settings.alpha * meant / used:.6g}" if used else "" for meant, used in scales.values()
            }
            yield Hit(
                message=f"{len(wrong)} adapters are scaled wrongly: {first} by {used:.4g} instead of "
                f"{meant:.4g}",
                paths=tuple(wrong),
                fix=one_fix.format(alpha=alphas.pop()) if one_fix and len(alphas) == 1 and used else fix,
            )

    return when


def _peft_scale(settings: LoraSettings, adapter: Adapter) -> float:
    """Return what PEFT multiplies an adapter by (`LoraLayer.update_layer` in peft/tuners/lora/layer.py)."""
    key = pattern_key(settings.alpha_pattern, adapter.key) if settings.alpha_pattern else None
    alpha = settings.alpha if key is None else settings.alpha_pattern[key]
    rank = rank_of(settings, adapter.key)
    return alpha / sqrt(rank) if settings.use_rslora else alpha / rank
