"""The loop of a pilot whose waves are trained on a cluster: nothing but this process writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.checkpoint import remove_others, write_bytes
from lora_probe.piloting.cluster.worker import Measured, Said, Started, Stepped, Task
from lora_probe.piloting.log import Saved, read_history
from lora_probe.piloting.records import Failed
from lora_probe.piloting.runner import Runner
from lora_probe.piloting.waves import states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.piloting.cluster.crew import Crew
    from lora_probe.piloting.log import History, Wave
    from lora_probe.piloting.waves import Round

__all__ = ["ClusterRunner"]


@dataclass(kw_only=True, slots=True)
class ClusterRunner(Runner):
    """A runner whose engine is a `Crew`: all open waves of a round are under way at once."""

    engine: Crew  # type: ignore[assignment]  # asked for waves as an engine is, never for a session

    def _work(self, waves: Sequence[Wave], current: Round, history: History) -> None:
        del current, history  # older than what the workers have to know
        for wave, trouble in self.engine.run(waves, task=self._task, hear=self._hear):
            self._settle(wave, trouble)

    def _task(self, wave: Wave) -> Task:
        history = read_history(self.desk.folder)
        found = states(history.saved)
        saved = tuple({found[trial]: None for trial in wave.trials if trial in found})
        return Task(
            wave=wave,
            saved=saved,
            files=self._files(saved),
            failed=tuple(result.trial for result in history.results() if isinstance(result, Failed)),
            save_adapters=self.desk.save_adapters,
        )

    def _files(self, saved: Sequence[Saved]) -> dict[str, bytes]:
        """Read checkpoints; one that is gone is left out, and the worker says what follows."""
        return {
            each.file: (self.desk.checkpoints / each.file).read_bytes()
            for each in saved
            if (self.desk.checkpoints / each.file).is_file()
        }

    def _hear(self, wave: Wave, message: Any) -> None:
        observer = self.desk.observer
        if isinstance(message, Measured):
            self._keep(wave, message)
        elif isinstance(message, Said):
            observer.said(message.message)
        elif isinstance(message, Started):
            observer.wave_started(wave.unit, wave.trials, message.step)
        elif isinstance(message, Stepped):
            for step, losses, tokens, seconds in message.steps:
                observer.step_done(wave.trials, step, losses, tokens=tokens, seconds=seconds)

    def _keep(self, wave: Wave, message: Measured) -> None:
        """Write the files first, so that the log never says too much."""
        for name, data in message.files.items():
            write_bytes(self.desk.folder / name, data)
        self.desk.record(wave.id, [entry for _, entry in message.entries])
        files = [entry.file for _, entry in message.entries if isinstance(entry, Saved)]
        if files:
            remove_others(self.desk.checkpoints, prefix=f"{wave.id}-", keep=files)
