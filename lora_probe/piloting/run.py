"""`pilot` runs one, or goes on with it; `compare` says again what one has found."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.analysis import analyse
from lora_probe.piloting.cluster.connection import require_cluster
from lora_probe.piloting.errors import DifferentPilots
from lora_probe.piloting.folder import (
    agree_on_plan,
    differences,
    discarded_unless_begun,
    prepared_folder,
    read_plan,
)
from lora_probe.piloting.log import Log, read_history
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.options import read_options
from lora_probe.piloting.passes import Desk
from lora_probe.piloting.preparation import prepare
from lora_probe.piloting.protocol import next_units
from lora_probe.piloting.runner import Runner
from lora_probe.piloting.shards import claimed, live_siblings
from lora_probe.piloting.verification import verify
from lora_probe.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from typing_extensions import Unpack

    from lora_probe.piloting.options import PilotOptions, Settings
    from lora_probe.piloting.outcome import Analysis
    from lora_probe.piloting.preparation import Prepared
    from lora_probe.piloting.records import Plan, Result
    from lora_probe.piloting.verification import Verification

__all__ = ["PilotReport", "compare", "pilot"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PilotReport:
    """What a pilot has found so far."""

    folder: Path
    analysis: Analysis
    waiting_for: tuple[str, ...] = ()
    """Shards, as ``i/n``, that must work before this one can go on."""
    verification: Verification | None = None
    """How far stacked trials lie from the same ones in PEFT, where that was asked for."""

    @property
    def plan(self) -> Plan:
        """What was planned."""
        return self.analysis.plan

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be trained."""
        return self.analysis.complete

    def to_frame(self) -> pd.DataFrame:
        """Return one line an arm, best first: the fields of `LeaderboardRow`."""
        return self.analysis.to_frame()

    def to_json(self, *, indent: int | None = None) -> str:
        """Return everything as one JSON document: the fields of `Analysis`."""
        return self.analysis.to_json(indent=indent)

    def __repr__(self) -> str:
        """Name folder and answer in one line; the losses would drown whatever else a prompt shows."""
        return f"<PilotReport {printable(str(self.folder))}: {self.analysis.verdict.answer}>"

    def _repr_html_(self) -> str:
        """Show verdict and table where a notebook displays the report."""
        # As for graphs: the one look from the core to an edge, since IPython asks the object itself.
        from lora_probe.report.pilot_html import pilot_fragment

        return pilot_fragment(self.analysis)


def pilot(
    model: str | os.PathLike[str],
    data: str | Sequence[str],
    *,
    out: str | os.PathLike[str],
    candidates: Sequence[str] | None = None,
    observer: Observer | None = None,
    command: Sequence[str] = (),
    **options: Unpack[PilotOptions],
) -> PilotReport:
    """Compare target sets by short fine-tunes on one frozen base; go on where an earlier call ended.

    Args:
        model: A hub id or a folder with weights.
        data: Files (JSON Lines, CSV, Parquet, plain text), a folder of such, or a dataset id.
        out: The folder of plan, log and checkpoints; a second call with the same plan continues in it.
        candidates: Target sets, each with a rank of its own where it ends in ``:r=N``; by default the sets
            that people argue about.
        observer: Who is told what happens while it runs.
        command: The words of the command line, to be kept with the plan.
        **options: See `PilotOptions`.

    Raises:
        LoraProbeError: Something is missing, broken or does not fit; the subclass says what.

    """
    settings, folder = read_options(options), Path(out)
    watching = observer or Observer()
    if settings.cluster is not None:
        require_cluster(settings.cluster)

    def is_shared() -> bool:
        return bool(live_siblings(folder, settings.shard))

    with (
        prepared_folder(folder),
        claimed(folder, settings.shard),
        discarded_unless_begun(folder, is_shared=is_shared),
    ):
        prepared = prepare(model, data, candidates, settings, command=command, tell=watching.said)
        plan = agree_on_plan(folder, prepared.plan)
        log = Log(folder / f"results{settings.shard.suffix}.jsonl")
        watching.started(plan, read_history(folder).results())
        try:
            for note in prepared.notes:
                watching.said(note)
            with _engine(prepared, plan, folder, settings, tell=watching.said) as engine:
                watching.said(engine.reason)
                verification = None
                if settings.verify:
                    verification = verify(plan, engine, prepared.base.model, prepared.data)
                    watching.said(str(verification))
                runner = _runner(settings)(
                    desk=_desk(plan, folder, log, watching, settings),
                    engine=engine,
                    ask=next_units,
                    shard=settings.shard,
                )
                waiting_for = runner.run()
        finally:
            watching.finished()
    return PilotReport(
        folder=folder,
        analysis=analyse(plan, read_history(folder).results()),
        waiting_for=waiting_for,
        verification=verification,
    )


def compare(folder: str | os.PathLike[str], *more: str | os.PathLike[str]) -> PilotReport:
    """Say what a pilot has found, from its folder alone: nothing is trained, no model is loaded.

    `more` are folders of the same plan, such as those of machines that share no disk: their results are
    merged.

    Raises:
        NoPilot, DamagedLog: a folder holds no pilot, or one that cannot be read.
        DifferentPilots: the folders hold pilots that are not one.

    """
    folders = [Path(each) for each in (folder, *more)]
    plans = [read_plan(each) for each in folders]
    results: list[Result] = []
    for each, plan in zip(folders, plans, strict=True):
        found = differences(plans[0], plan, places=(f"in {folders[0]}", f"in {each}"))
        if plan.model.fingerprint != plans[0].model.fingerprint:
            found = (*found, "the weights of their models differ")
        if plan.data.fingerprint != plans[0].data.fingerprint:
            found = (*found, "their data differ")
        if found:
            raise DifferentPilots(first=str(folders[0]), second=str(each), differences=found)
        results += read_history(each).results()
    return PilotReport(folder=folders[0], analysis=analyse(plans[0], results))


@contextmanager
def _engine(
    prepared: Prepared, plan: Plan, folder: Path, settings: Settings, *, tell: Callable[[str], None]
) -> Iterator[Any]:
    """Yield the engine, or the workers of a cluster in its place.

    Of a pilot that goes on, it is the one that it began with, without measuring again.
    """
    from lora_probe.piloting.engine.choosing import make_engine

    wave = settings.wave
    began = next(iter(read_history(folder).waves), None)
    if began is not None and wave is None:
        wave = began.size
    layout = began.engine if began is not None else None
    if settings.cluster is None:
        yield make_engine(replace(plan, wave=wave), prepared.base.model, prepared.data, layout=layout)
        return
    from lora_probe.piloting.cluster.pilot import open_crew

    with open_crew(prepared, settings, wave=wave, layout=layout, folder=folder, tell=tell) as crew:
        yield crew


def _runner(settings: Settings) -> type[Runner]:
    if settings.cluster is None:
        return Runner
    from lora_probe.piloting.cluster.runner import ClusterRunner

    return ClusterRunner


def _desk(plan: Plan, folder: Path, log: Log, observer: Observer, settings: Settings) -> Desk:
    suffix = settings.shard.suffix
    return Desk(
        plan=plan,
        folder=folder,
        log=log,
        observer=observer,
        prefix=f"{suffix.lstrip('-')}-" if suffix else "",
        save_adapters=settings.save_adapters,
    )
