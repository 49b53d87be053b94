"""The workers of a cluster, as the process that asks for waves sees them: hired, given work, and replaced."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.cluster.worker import Ended, Worker
from lora_probe.piloting.errors import NoCluster
from lora_probe.piloting.records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lora_probe.piloting.cluster.worker import Job, Ready, Task
    from lora_probe.piloting.log import Wave
    from lora_probe.piloting.records import Trial

__all__ = ["Crew", "Needs"]

_MOST_DEATHS = 3
"""How often in a row workers may die at a wave, or before they have their base."""
_PATIENCE = 30.0
"""Seconds without any news after which a word is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What one worker takes of a machine."""

    gpus: float
    cpus: float

    def places(self, nodes: Iterable[dict[str, Any]]) -> int:
        """Return how many workers these machines have room for, all of them together."""
        total = 0
        for node in nodes:
            has = node["Resources"] if node["Alive"] else {}
            rooms = [
                int(has.get(name, 0) / amount + 1e-6)
                for name, amount in (("GPU", self.gpus), ("CPU", self.cpus))
                if amount
            ]
            total += min(rooms, default=0)
        return total

    def __str__(self) -> str:
        """Return it as people say it."""
        asked = ((self.gpus, "GPU"), (self.cpus, "CPU"))
        return " and ".join(f"{n:g} {name}{'s' * (n != 1)}" for n, name in asked if n)


@dataclass(kw_only=True, slots=True)
class Crew:
    """Workers that are hired when there are waves for them; those that die are replaced.

    The first of them finds out how waves are best trained, and all others do the same.
    """

    ray: Any
    job: Job
    needs: Needs
    tell: Callable[[str], None]
    address: str
    _settled: Ready | None = field(default=None, init=False)
    _reference: Any = field(default=None, init=False)
    _idle: list[Any] = field(default_factory=list, init=False)
    _coming: dict[Any, Any] = field(default_factory=dict, init=False)
    """What a new worker will say -> the worker."""
    _told: set[str] = field(default_factory=set, init=False)
    _stillborn: int = field(default=0, init=False)

    @property
    def choice(self) -> str:
        """As of `Engine`."""
        return self._first().choice

    @property
    def size(self) -> int | None:
        """As of `Engine`."""
        return self._first().size

    @property
    def reason(self) -> str:
        """As of `Engine`."""
        return self._first().reason

    def waves(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, ...]]:
        """Divide trials as a worker's engine does, but so that there is something for everybody."""
        size = self.job.plan.wave or math.ceil(len(trials) / self._places()) or 1
        for start in range(0, len(trials), size):
            yield from self._ask("waves", tuple(trials[start : start + size]))

    def run(
        self,
        waves: Sequence[Wave],
        *,
        task: Callable[[Wave], Task],
        hear: Callable[[Wave, Any], None],
    ) -> Iterator[tuple[Wave, tuple[Failure, str] | None]]:
        """Train waves, each on a worker of its own; yields each at its end, with its trouble if it had one.

        `task` is asked for what is known of a wave each time that a worker takes it up, `hear` gets what the
        worker reports. A wave whose worker dies goes to another one, from where its last report left it.
        """
        left, deaths = deque(waves), Counter[str]()
        running: dict[Any, tuple[Any, Wave]] = {}
        while left or running:
            self._hire(len(left) + len(running), busy=len(running))
            while left and self._idle:
                worker, wave = self._idle.pop(), left.popleft()
                reports = worker.run.options(num_returns="streaming").remote(task(wave))
                running[reports] = (worker, wave)
            for source in self._news([*running, *self._coming]):
                if source in self._coming:
                    self._welcome(source)
                    continue
                worker, wave = running[source]
                try:
                    message = self.ray.get(next(source))
                except self.ray.exceptions.RayTaskError:
                    raise
                except self.ray.exceptions.RayError as error:
                    del running[source]
                    deaths[wave.id] += 1
                    if deaths[wave.id] < _MOST_DEATHS:
                        self.tell(f"{_lost(error)}: its {len(wave.trials)} trial(s) go on elsewhere")
                        left.appendleft(wave)
                    else:
                        yield (
                            wave,
                            (Failure.CRASHED, f"{_MOST_DEATHS} workers died at it, the last: {_lost(error)}"),
                        )
                    continue
                if isinstance(message, Ended):
                    del running[source]
                    self._idle.append(worker)
                    yield wave, message.trouble
                else:
                    deaths[wave.id] = 0
                    hear(wave, message)

    def _places(self) -> int:
        places = self.needs.places(self.ray.nodes())
        if not places and not (self._idle or self._coming):
            problem, advice = f"no machine of it has {self.needs}", "lower --ray-gpus or --ray-cpus"
            raise NoCluster(address=self.address, problem=problem, advice=advice)
        return max(1, places)

    def _hire(self, wanted: int, *, busy: int) -> None:
        """Let new workers come, as many as there is work and room for; at first, only one."""
        places = self._places()
        most = places if self._settled is not None else 1
        if self._reference is None:
            self._reference = self.ray.put(self.job)
        for _ in range(min(wanted, most) - busy - len(self._idle) - len(self._coming)):
            kind = self.ray.remote(num_gpus=self.needs.gpus, num_cpus=self.needs.cpus)(Worker)
            worker = kind.remote(self._reference)
            self._coming[worker.ready.remote()] = worker

    def _welcome(self, source: Any) -> None:
        worker = self._coming.pop(source)
        try:
            ready = self.ray.get(source)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            self._stillborn += 1
            if self._stillborn >= _MOST_DEATHS:
                problem, advice = (
                    f"its workers do not start ({_lost(error)})",
                    "see Ray's logs on its machines",
                )
                raise NoCluster(address=self.address, problem=problem, advice=advice) from error
            return
        if ready.problem is not None:
            raise NoCluster(
                address=self.address, problem=ready.problem, advice="make all of its machines alike in this"
            )
        self._stillborn = 0
        if self._settled is None:
            self._settled = ready
            self.job = replace(self.job, layout=ready.choice, wave=ready.size)
            self._reference = None
        self._idle.append(worker)

    def _first(self) -> Ready:
        """Wait until a worker is there, and return what the first one found out."""
        while not self._idle:
            self._hire(1, busy=0)
            for source in self._news(list(self._coming)):
                self._welcome(source)
        if self._settled is None:
            raise AssertionError("nobody is idle who has not said that it is ready")
        return self._settled

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Let any worker answer a question."""
        while True:
            self._first()
            try:
                return self.ray.get(getattr(self._idle[-1], method).remote(*arguments))
            except self.ray.exceptions.RayTaskError:
                raise
            except self.ray.exceptions.RayError:
                self._idle.pop()

    def _news(self, sources: list[Any]) -> list[Any]:
        """Return the first of `sources` that has something to say; none after a long silence."""
        ready, _ = self.ray.wait(sources, num_returns=1, timeout=_PATIENCE)
        if not ready and len(self._coming) == len(sources) and "waiting" not in self._told:
            self._told.add("waiting")
            self.tell(f"waiting for the cluster to give {self.needs} to a worker")
        return list(ready)


def _lost(error: Exception) -> str:
    """Return what Ray says of a lost worker, on one line."""
    words = " ".join(str(error).split())
    return f"a worker was lost ({words[:160]})"
