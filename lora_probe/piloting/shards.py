"""Several processes on one folder: which trials are whose, and who is at work."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.piloting.errors import BadPilotOption, FolderInUse
from lora_probe.piloting.lock import is_held, locked, owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lora_probe.piloting.records import Plan, Trial

__all__ = ["ALONE", "Shard", "claimed", "live_siblings", "read_shard"]

_TEXT = re.compile(r"(\d{1,4})/(\d{1,4})", re.ASCII)
_LOCKS = "lock*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One of `count` processes that share a pilot, counted from 1."""

    index: int = 1
    count: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether this process does all the work."""
        return self.count == 1

    @property
    def suffix(self) -> str:
        """What tells its files from those of the others: empty, or ``-1-of-3``."""
        return "" if self.is_alone else f"-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        """Return it as ``--shard`` takes it."""
        return f"{self.index}/{self.count}"

    def owns(self, trial: Trial, plan: Plan) -> bool:
        """Return whether a trial is this process's."""
        return self.owner(trial, plan) == self.index

    def owner(self, trial: Trial, plan: Plan) -> int:
        """Return the index of the shard whose trial it is; the same for every process.

        Candidates, learning rates and seeds count up together, so that a grid of them is dealt out evenly.
        """
        names = [candidate.name for candidate in plan.candidates]
        seeds = plan.protocol.seeds
        place = names.index(trial.candidate) + _grid_position(trial.learning_rate, plan) + trial.repeat
        place += seeds.index(trial.seed) if trial.seed in seeds else 0
        return place % self.count + 1


ALONE = Shard()


def read_shard(text: str) -> Shard:
    """Return the shard of ``2/3``.

    Raises:
        BadPilotOption: `text` is nothing like it, or counts past its own end.

    """
    found = _TEXT.fullmatch(text.strip())
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise BadPilotOption(option="--shard", value=text, problem="must be i/n with i from 1 to n, as 2/3")
    return Shard(index=index, count=count)


@contextmanager
def claimed(folder: Path, shard: Shard) -> Iterator[None]:
    """Hold `folder` for this process; other shards of the same number may hold it, too.

    Of a process that is refused, or that leaves nothing but locks in the folder, the own one goes again.

    Raises:
        FolderInUse: a process that would do the same work holds it.

    """
    own = folder / f"lock{shard.suffix}"
    with locked(own) as mine:
        if not mine:
            raise FolderInUse(path=str(folder), owner=owner(own))
        begun = False
        try:
            for other in sorted(folder.glob(_LOCKS)):
                if other not in _siblings(folder, shard) and is_held(other):
                    raise FolderInUse(path=str(folder), owner=owner(other))
            begun = True
            yield
        finally:
            with suppress(OSError):
                if not begun or set(folder.iterdir()) == set(folder.glob(_LOCKS)):
                    own.unlink()


def live_siblings(folder: Path, shard: Shard) -> tuple[str, ...]:
    """Return the other shards that are at work now, as ``--shard`` takes them."""
    return tuple(
        f"{index}/{shard.count}"
        for index, path in enumerate(_siblings(folder, shard), 1)
        if index != shard.index and is_held(path)
    )


def _siblings(folder: Path, shard: Shard) -> list[Path]:
    """Return the lock files of all shards of the same number, this one's included."""
    return [
        folder / f"lock{Shard(index=index, count=shard.count).suffix}" for index in range(1, shard.count + 1)
    ]


def _grid_position(rate: float, plan: Plan) -> int:
    """Return which point of an endless geometric grid a learning rate is."""
    factors = sorted(plan.protocol.grid)
    ratio = factors[1] / factors[0] if len(factors) > 1 else 2.0
    return round(math.log(rate / plan.protocol.learning_rate) / math.log(ratio)) if rate > 0 else 0
