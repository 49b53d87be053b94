"""What runs on a machine of the cluster: a process that loads the base once and trains waves on it.

It keeps nothing. What the log and the checkpoints of a pilot would get is sent to the process that asked for
the wave, stretch by stretch, and only there it is written: so machines need not share a disk, and whatever
kills a worker costs no more than the stretch that it was in.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from lora_probe._version import __version__
from lora_probe.errors import LoraProbeError
from lora_probe.piloting.errors import ChangedUnderneath, OutOfMemory
from lora_probe.piloting.folder import ADAPTERS, CHECKPOINTS
from lora_probe.piloting.log import Log, Saved
from lora_probe.piloting.observer import Observer
from lora_probe.piloting.passes import Desk, PassCrashed, run_pass
from lora_probe.piloting.records import Failure
from lora_probe.piloting.waves import states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.piloting.data import PilotData
    from lora_probe.piloting.log import Entry, Wave
    from lora_probe.piloting.records import Plan, Trial, Unit

__all__ = ["Ended", "Job", "Measured", "Ready", "Said", "Started", "Stepped", "Task", "Worker"]

_PACE = 0.25
"""Seconds between two reports of steps."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """What all workers of a pilot need; sent once."""

    plan: Plan
    data: PilotData
    folder: str
    """The pilot's, for messages."""
    model: str
    opening: Mapping[str, Any]
    loading: Mapping[str, Any]
    threads: int | None
    """Of torch on a CPU: the same number, the same sums."""
    wave: int | None = None
    """The most trials of a wave; None lets memory decide."""
    layout: str | None = None
    """How waves are spread over a machine's threads; None lets the first worker find out, for all."""
    version: str = __version__


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """A wave, and all that is known of its trials."""

    wave: Wave
    saved: tuple[Saved, ...]
    files: Mapping[str, bytes]
    """The checkpoints of `saved`, by name."""
    failed: tuple[Trial, ...]
    save_adapters: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A worker has its base and its engine, or says in a sentence why not."""

    choice: str = ""
    """As of `Engine`, like `size` and `reason`."""
    size: int | None = None
    reason: str = ""
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A sentence for the observer."""

    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """A pass goes on from a step."""

    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stepped:
    """Steps that were taken: the arguments of `Observer.step_done`, step by step."""

    steps: tuple[tuple[int, tuple[float, ...], int, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """A stretch: what goes to the log, and the files that it speaks of."""

    entries: tuple[tuple[str, Entry], ...]
    files: Mapping[str, bytes]
    """By path in the pilot's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A pass is over, well or with what a trial may be to blame for."""

    trouble: tuple[Failure, str] | None = None


class Worker:
    """The class of the actors; one wave at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._engine: Any = None

    def ready(self) -> Ready:
        """Load the base."""
        job = self._job
        if job.version != __version__:
            problem = f"a machine of the cluster has lora-probe {__version__}, and this one {job.version}"
            return Ready(problem=f"{problem}; install the same version on all")
        try:
            self._load()
        except LoraProbeError as error:
            return Ready(problem=f"on a machine of the cluster: {error}")
        engine = self._engine
        return Ready(choice=engine.choice, size=engine.size, reason=engine.reason)

    def waves(self, trials: Sequence[Trial]) -> tuple[tuple[Trial, ...], ...]:
        """Divide trials as this machine's engine does."""
        return tuple(self._engine.waves(trials))

    def run(self, task: Task) -> Iterator[Any]:
        """Train a wave; yields messages, the last of which is `Ended`."""
        messages: SimpleQueue[Any] = SimpleQueue()
        thread = Thread(target=self._train, args=(task, messages), daemon=True)
        thread.start()
        while True:
            message = messages.get()
            if isinstance(message, BaseException):
                raise message
            yield message
            if isinstance(message, Ended):
                return

    def _load(self) -> None:
        from lora_probe.piloting.base import load_base, open_model
        from lora_probe.piloting.engine.choosing import make_engine

        job = self._job
        self._set_threads()
        opened = open_model(job.model, **job.opening)
        base = load_base(
            opened,
            task=job.plan.data.task,
            classes=job.data.label_names,
            pad_token_id=job.data.pad_token_id,
            **job.loading,
        )
        if base.facts.fingerprint != job.plan.model.fingerprint:
            raise ChangedUnderneath(path=job.folder, what="model", source=job.model)
        plan = replace(job.plan, wave=job.wave)
        self._engine = make_engine(plan, base.model, job.data, layout=job.layout)

    def _set_threads(self) -> None:
        """Set the threads of torch, of which each thread of Python has its own number."""
        import torch

        if self._job.threads is not None:
            torch.set_num_threads(self._job.threads)

    def _train(self, task: Task, messages: SimpleQueue[Any]) -> None:
        self._set_threads()
        trouble = None
        try:
            with tempfile.TemporaryDirectory(prefix="lora-probe-") as name:
                folder = Path(name)
                (folder / CHECKPOINTS).mkdir()
                for file, data in task.files.items():
                    (folder / CHECKPOINTS / file).write_bytes(data)
                watching = _Reporter(messages)
                desk = Desk(
                    plan=self._job.plan,
                    folder=folder,
                    log=_Sender(folder, messages, watching),
                    observer=watching,
                    save_adapters=task.save_adapters,
                )
                run_pass(desk, self._engine, task.wave, states=states(task.saved), failed=task.failed)
        except OutOfMemory as error:
            trouble = (Failure.OUT_OF_MEMORY, str(error))
        except PassCrashed as error:
            trouble = (Failure.CRASHED, str(error))
        except LoraProbeError as error:
            trouble = (Failure.CRASHED, f"on a machine of the cluster: {error}")
        except BaseException as error:  # noqa: BLE001 - raised again where Ray hears it
            messages.put(error)
            return
        messages.put(Ended(trouble=trouble))


@dataclass(slots=True)
class _Reporter(Observer):
    """Sends what happens, steps several at a time."""

    messages: SimpleQueue[Any]
    _steps: list[tuple[int, tuple[float, ...], int, float]] = field(default_factory=list, init=False)
    _last: float = field(default=0.0, init=False)

    def said(self, message: str) -> None:
        self.messages.put(Said(message=message))

    def wave_started(self, unit: Unit, trials: Sequence[Trial], step: int) -> None:
        del unit, trials  # whoever asked knows them
        self.messages.put(Started(step=step))

    def step_done(
        self, trials: Sequence[Trial], step: int, losses: Sequence[float], *, tokens: int, seconds: float
    ) -> None:
        del trials
        self._steps.append((step, tuple(losses), tokens, seconds))
        if time.monotonic() - self._last > _PACE:
            self.flush()

    def flush(self) -> None:
        """Send the steps that were not sent yet."""
        if self._steps:
            self.messages.put(Stepped(steps=tuple(self._steps)))
            self._steps.clear()
        self._last = time.monotonic()


class _Sender(Log):
    """A log that is kept elsewhere: entries go there with the files that they speak of."""

    def __init__(self, folder: Path, messages: SimpleQueue[Any], reporter: _Reporter) -> None:
        super().__init__(folder / "unused.jsonl")
        self._folder, self._messages, self._reporter = folder, messages, reporter

    def append(self, entries: Sequence[tuple[str, Entry]]) -> None:
        """Send them; a checkpoint is whole by now, and adapters were written before."""
        paths = [Path(CHECKPOINTS, entry.file) for _, entry in entries if isinstance(entry, Saved)]
        adapters = self._folder / ADAPTERS
        paths += [path.relative_to(self._folder) for path in sorted(adapters.rglob("*")) if path.is_file()]
        files = {path.as_posix(): (self._folder / path).read_bytes() for path in paths}
        self._reporter.flush()
        self._messages.put(Measured(entries=tuple(entries), files=files))
