"""`score` measures; `score_base` does so on a model that is loaded already, as a pilot's is."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_probe.errors import LoraProbeError, PeftRefusal
from lora_probe.graph import Adaptable, Kind
from lora_probe.peft_rules import ALL_LINEAR
from lora_probe.piloting.errors import UnfitModel
from lora_probe.scoring.options import Passing, read_score_options
from lora_probe.scoring.ranking import agreement, ranked_roles, signal_to_noise
from lora_probe.scoring.records import Scores, SiteScore, Skipped
from lora_probe.targets import resolve

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from lora_probe.graph import ModuleGraph, Site
    from lora_probe.piloting.base import Base
    from lora_probe.piloting.data import PilotData
    from lora_probe.piloting.records import Training
    from lora_probe.scoring.options import ScoreOptions
    from lora_probe.scoring.signals.measuring import Measured

__all__ = ["score", "score_base"]

_SCORED = frozenset({Kind.LINEAR, Kind.CONV1D})
_REASONS = {
    Kind.EXPERT_PARAMETER: "experts kept as bare parameters: no module takes their inputs",
    Kind.MATRIX_PARAMETER: "bare parameters: no module takes their inputs",
    Kind.PACKED_ATTENTION: "packed attention: no module of its own takes their inputs",
    Kind.EMBEDDING: "embeddings: they are given numbers of tokens, not vectors",
    Kind.CONV: "convolutions: the signals are for matrices",
}
_NEW = "heads that start from chance and are trained in full"
_UNUSED = "modules that the model never called on this data"


def _silent(_: str) -> None:
    """Tell nobody."""


def score(
    model: str | os.PathLike[str],
    data: str | Sequence[str],
    *,
    tell: Callable[[str], None] = _silent,
    **options: Unpack[ScoreOptions],
) -> Scores:
    """Score every module of a target set on some data: three cheap signals, which decide nothing.

    Args:
        model: A hub id or a folder with weights.
        data: Files (JSON Lines, CSV, Parquet, plain text), a folder of such, or a dataset id. The examples
            are those that a pilot would train on; those that it measures with are left alone.
        tell: Hears what is being done.
        **options: See `ScoreOptions`.

    Raises:
        LoraProbeError: Something is missing, broken or does not fit; the subclass says what.

    """
    from lora_probe.piloting.preparation import library_versions, load

    passing, settings = read_score_options(options)
    loaded = load(model, data, settings, tell=tell)
    tell("scoring")
    return score_base(
        loaded.base,
        loaded.data,
        passing,
        training=settings.training,
        versions=library_versions(),
        notes=(*loaded.base.notes, *loaded.data.notes),
    )


def score_base(
    base: Base,
    data: PilotData,
    passing: Passing,
    *,
    training: Training,
    versions: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Scores:
    """Score a loaded base, which is left as it was; the micro-batches are those that `training` would see.

    Raises:
        UnfitModel: nothing of the target set can be scored, or the loss is no number.
        OutOfMemory: a micro-batch does not fit.

    """
    from lora_probe.piloting.data import batches
    from lora_probe.scanner import scan
    from lora_probe.scoring.signals.measuring import measure

    graph = scan(base.model)
    chosen, refused = _chosen(graph, passing.targets)
    sites, skipped = _scorable(chosen, new=base.new_modules)
    skipped = (*skipped, *refused)
    if not sites:
        why = "; ".join(each.reason for each in skipped)
        raise UnfitModel(
            model=base.facts.model,
            problem=f"nothing of {passing.targets} can be scored ({why})",
            advice="name linear layers by --targets",
        )
    one = replace(training, accumulation=1)
    passes = measure(
        base.model,
        sites,
        [batch for step in range(passing.batches) for batch in batches(data, one, step=step)],
        task=data.facts.task,
        rank=passing.rank,
        scale=passing.alpha_over_rank,
        seed=passing.seed,
    )
    if not math.isfinite(passes.loss):
        raise UnfitModel(
            model=base.facts.model,
            problem=f"its loss on this data is {passes.loss}",
            advice="try --dtype float32",
        )
    scored = tuple(
        _site_score(site, passes.modules[site.path], passing.rank)
        for site in sites
        if site.path in passes.modules
    )
    unused = tuple(site.parameter for site in sites if site.path not in passes.modules)
    if unused:
        skipped = (*skipped, Skipped(reason=_UNUSED, parameters=unused))
    roles = ranked_roles(scored, _role_targets(graph, scored))
    return Scores(
        model=base.facts,
        data=data.facts,
        targets=passing.targets,
        rank=passing.rank,
        scale=passing.alpha_over_rank,
        batches=passing.batches,
        batch_size=training.batch_size,
        seed=passing.seed,
        tokens=passes.tokens,
        loss=passes.loss,
        sites=scored,
        roles=roles,
        agreement=agreement(roles),
        skipped=skipped,
        notes=(*notes, *_notes(scored, passing, base)),
        versions=dict(versions or {}),
    )


def _chosen(graph: ModuleGraph, targets: str) -> tuple[tuple[Site, ...], tuple[Skipped, ...]]:
    """Return the sites of a target set, and those without which PEFT would take all-linear.

    Of some models PEFT refuses all-linear as a whole because of one layer: the others are scored.
    """
    try:
        return resolve(graph, targets), ()
    except PeftRefusal as refusal:
        if targets != ALL_LINEAR or not refusal.where:
            raise
        names = {path.rpartition(".")[2] for path in refusal.where}
        reason = f"PEFT refuses them: {refusal.reason}"
    linear = [site for site in graph if site.kind in _SCORED and site.path != graph.output_embedding]
    refused = tuple(site.parameter for site in linear if site.name in names)
    chosen = tuple(site for site in linear if site.name not in names)
    return chosen, (Skipped(reason=reason, parameters=refused),)


def _scorable(chosen: Sequence[Site], *, new: Sequence[str]) -> tuple[tuple[Site, ...], tuple[Skipped, ...]]:
    """Return the sites whose module maps vectors to vectors, and the others by the reason."""
    left: defaultdict[str, list[str]] = defaultdict(list)
    sites = []
    for site in chosen:
        if site.path in new:
            left[_NEW].append(site.parameter)
        elif site.kind in _SCORED and site.adaptable is Adaptable.MODULE:
            sites.append(site)
        else:
            left[_REASONS.get(site.kind, "weights that no module of their own uses")].append(site.parameter)
    skipped = (Skipped(reason=reason, parameters=tuple(names)) for reason, names in left.items())
    return tuple(sites), tuple(skipped)


def _site_score(site: Site, measured: Measured, rank: int) -> SiteScore:
    consistent = measured.consistent_energy
    return SiteScore(
        path=site.path,
        role=site.role,
        block=site.block,
        layer=site.layer,
        in_features=site.in_features,
        out_features=site.out_features,
        added_parameters=site.lora_parameters(rank),
        nfn=measured.nfn,
        tokens=measured.tokens,
        padding_masked=measured.padding_masked,
        energy=measured.energy,
        snr=None if consistent is None else signal_to_noise(consistent, measured.energy),
        consistent_energy=consistent,
    )


def _role_targets(graph: ModuleGraph, scored: Sequence[SiteScore]) -> dict[str, str]:
    """Return role -> the text that stands for it on this model, with the tower where there are several."""
    several = len({site.tower for site in graph.sites}) > 1
    found = {}
    for role in dict.fromkeys(site.role for site in scored):
        short = role.partition(":")[2]
        wanted = {site.path for site in scored if site.role == role}
        for text in (role,) if several else (short, role):
            if wanted <= _paths(graph, text):
                found[role] = text
                break
    return found


def _paths(graph: ModuleGraph, text: str) -> set[str]:
    try:
        return {site.path for site in resolve(graph, text)}
    except LoraProbeError:
        return set()


def _notes(scored: Sequence[SiteScore], passing: Passing, base: Base) -> Iterator[str]:
    dead = sum(1 for site in scored if not site.energy)
    if dead:
        yield f"no gradient reaches {dead} of {len(scored)} modules: an adapter there would learn nothing"
    unmasked = sum(1 for site in scored if not site.padding_masked)
    if unmasked:
        yield f"in {unmasked} of {len(scored)} modules padding looks like tokens: their NFN counts both"
    if passing.batches == 1:
        yield "one micro-batch cannot agree with others: consistency needs two or more (--batches)"
    else:
        noise = 1 / (passing.batches - 1)
        yield f"an SNR of about {noise:.2g} is what {passing.batches} batches of pure noise give"
    if base.new_modules:
        yield "the gradients come through a new head, which is random until it is trained"
