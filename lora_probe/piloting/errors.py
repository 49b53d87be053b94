"""What can go wrong in a pilot, each a class that builds its own sentence."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lora_probe.errors import LoraProbeError, near_misses
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BadDataOption",
    "BadExample",
    "BadPilotOption",
    "ChangedUnderneath",
    "DamagedLog",
    "DataNotFound",
    "DatasetUnavailable",
    "DifferentItems",
    "DifferentPilots",
    "FolderInUse",
    "ForeignFolder",
    "LongerThanModel",
    "MissingColumn",
    "MissingLibrary",
    "NoCluster",
    "NoDevice",
    "NoPilot",
    "NoUsableData",
    "NoWeights",
    "NotStackable",
    "OutOfMemory",
    "PlanDiffers",
    "TooLittleData",
    "UnfitModel",
    "UnfitTokenizer",
    "UnreadableData",
    "UnwritableFolder",
    "UnwritableRun",
]

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Numbers of errors of the system that less data would not meet; not all systems have quotas."""
_MOST_DIFFERENCES = 5
"""Differences between plans that one sentence names."""


class OutOfMemory(LoraProbeError, MemoryError):
    """A wave of trials, or the batch of a single one, did not fit into the device's memory."""

    def __init__(self, *, trials: int, device: str) -> None:
        self.trials, self.device = trials, device
        what, first = ("one batch does", "") if trials == 1 else (f"{trials} trials at once do", "--wave, ")
        super().__init__(
            f"{what} not fit into the memory of {device}; lower {first}--batch-size or --max-length"
        )


class DataNotFound(LoraProbeError, FileNotFoundError):
    """What should be data is no file, no folder with data, and no dataset id."""

    def __init__(self, *, source: str, problem: str, advice: str = "") -> None:
        self.source, self.problem, self.advice = source, problem, advice
        super().__init__(f"{source}: {problem}{f'; {advice}' if advice else ''}")


class DatasetUnavailable(LoraProbeError, OSError):
    """A dataset id that the hub, or its cache, does not give."""

    def __init__(self, *, dataset: str, problem: str, advice: str, near: Sequence[str] = ()) -> None:
        self.dataset, self.problem, self.advice, self.near = dataset, problem, advice, tuple(near)
        super().__init__(f"the dataset {dataset}: {problem}{near_misses(near)}; {advice}")


class UnreadableData(LoraProbeError, ValueError):
    """A file of data is not in the format that its name says."""

    def __init__(self, *, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"cannot read {where}: {problem}")


_MOST_COLUMNS = 20


class MissingColumn(LoraProbeError, LookupError):
    """The rows lack the columns that the task needs."""

    def __init__(
        self, *, source: str, needed: str, columns: Sequence[str], advice: str, near: Sequence[str] = ()
    ) -> None:
        self.source, self.needed, self.columns = source, needed, tuple(columns)
        self.advice, self.near = advice, tuple(near)
        shown = [*columns[:_MOST_COLUMNS], *(["…"] if len(columns) > _MOST_COLUMNS else [])]
        there = f"the columns are {', '.join(shown)}" if shown else "there are no columns"
        super().__init__(f"{source} has no column {needed}: {there}{near_misses(near)}; {advice}")


class BadExample(LoraProbeError, ValueError):
    """One row does not hold what its columns promise."""

    def __init__(self, *, where: str, problem: str, advice: str = "") -> None:
        self.where, self.problem, self.advice = where, problem, advice
        super().__init__(f"{where}: {problem}{f'; {advice}' if advice else ''}")


class NoUsableData(LoraProbeError, ValueError):
    """Everything was read, and nothing of it can be trained on."""

    def __init__(self, *, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"{source} holds nothing to train on: {problem}")


class TooLittleData(LoraProbeError, ValueError):
    """A part of the split is too small for any comparison."""

    def __init__(self, *, source: str, train: int, tuning: int, test: int, least: int) -> None:
        self.source, self.train, self.tuning, self.test, self.least = source, train, tuning, test, least
        super().__init__(
            f"{source} is too small: {train} example(s) to train on, {tuning} to tune on and {test} to test "
            f"on, and each part needs at least {least}; give some hundreds of different examples"
        )


class LongerThanModel(LoraProbeError, ValueError):
    """Some examples need more positions than the model has."""

    def __init__(self, *, examples: int, total: int, positions: int) -> None:
        self.examples, self.total, self.positions = examples, total, positions
        super().__init__(
            f"{examples} of {total} examples are longer than the model's {positions} positions; "
            f"cut them with --max-length {positions} or less"
        )


class UnfitTokenizer(LoraProbeError, ValueError):
    """The tokenizer lacks what the data or the task needs."""

    def __init__(self, *, problem: str, advice: str) -> None:
        self.problem, self.advice = problem, advice
        super().__init__(f"the tokenizer {problem}; {advice}")


class BadDataOption(LoraProbeError, ValueError):
    """An option of how data is read does not exist or does not fit."""

    def __init__(self, *, option: str, value: str, problem: str) -> None:
        self.option, self.value, self.problem = option, value, problem
        super().__init__(f"{option} {value!r} {problem}")


class UnwritableFolder(LoraProbeError, OSError):
    """No folder can be had where a pilot should keep what it measures."""

    def __init__(self, *, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"--out {path} cannot be written ({reason}); "
            "give a folder that this process may make and write to"
        )


class UnwritableRun(LoraProbeError, OSError):
    """What a pilot measured cannot be kept: the disk is full or gone."""

    def __init__(self, *, path: str, error: OSError) -> None:
        self.path, self.reason = path, error.strerror or str(error)
        remedy = "make room" if error.errno in _NO_ROOM else "let this process write there"
        super().__init__(
            f"cannot write {path}: {self.reason}; nothing that was measured before is lost: "
            f"{remedy} and run the same command again"
        )


class DamagedLog(LoraProbeError, ValueError):
    """A file of a pilot's folder holds what no pilot wrote."""

    def __init__(self, *, path: str, problem: str, line: int | None = None) -> None:
        self.path, self.problem, self.line = path, problem, line
        where = f", line {line}" if line is not None else ""
        super().__init__(
            f"{path}{where}: this is none of lora-probe's own ({printable(problem, limit=120)}); "
            "restore the file, or start anew in another folder"
        )


class DifferentItems(LoraProbeError, ValueError):
    """Losses of one part of the data that are not of the same examples."""

    def __init__(self, *, arms: Sequence[str]) -> None:
        self.arms = tuple(arms)
        super().__init__(
            f"{' and '.join(arms)} were evaluated on different items: the log was changed, or is of several "
            "pilots; restore it, or start anew in another folder"
        )


class ForeignFolder(LoraProbeError, FileExistsError):
    """The output folder holds something else than a pilot."""

    def __init__(self, *, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"--out {path}: {problem}; give a folder that is empty or does not exist yet")


class NoPilot(LoraProbeError, FileNotFoundError):
    """A folder that should hold a pilot does not."""

    def __init__(self, *, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}; give the --out folder of lora-probe pilot")


class FolderInUse(LoraProbeError, BlockingIOError):
    """Another process works on a pilot's folder."""

    def __init__(self, *, path: str, owner: str) -> None:
        self.path, self.owner = path, owner
        super().__init__(
            f"--out {path}: {owner} works on it; wait for its end, "
            "or share the work with --shard i/n from the start"
        )


def _most(differences: Sequence[str]) -> str:
    shown = "; ".join(differences[:_MOST_DIFFERENCES])
    more = len(differences) - _MOST_DIFFERENCES
    return f"{shown}; and {more} more" if more > 0 else shown


class PlanDiffers(LoraProbeError, ValueError):
    """A folder holds a pilot with another plan."""

    def __init__(self, *, path: str, differences: Sequence[str]) -> None:
        self.path, self.differences = path, tuple(differences)
        super().__init__(
            f"--out {path} holds a pilot with another plan: {_most(self.differences)}; "
            "run it as it was, or give another folder"
        )


class DifferentPilots(LoraProbeError, ValueError):
    """Folders whose results should be merged hold pilots that are not one."""

    def __init__(self, *, first: str, second: str, differences: Sequence[str]) -> None:
        self.first, self.second, self.differences = first, second, tuple(differences)
        super().__init__(
            f"{first} and {second} hold different pilots: {_most(self.differences)}; compare each by itself"
        )


class ChangedUnderneath(LoraProbeError, ValueError):
    """The model or the data is not what a pilot began with."""

    def __init__(self, *, path: str, what: str, source: str) -> None:
        self.path, self.what, self.source = path, what, source
        super().__init__(
            f"the {what} {source} is not what the pilot in {path} began with (its fingerprint differs); "
            "restore it, or start anew in another folder"
        )


class NoWeights(LoraProbeError, FileNotFoundError):
    """A model is known, and its weights are not there."""

    def __init__(self, *, model: str, problem: str, advice: str) -> None:
        self.model, self.problem, self.advice = model, problem, advice
        super().__init__(f"{model}: {problem}; {advice}")


class UnfitModel(LoraProbeError, ValueError):
    """A model cannot be trained as asked."""

    def __init__(self, *, model: str, problem: str, advice: str) -> None:
        self.model, self.problem, self.advice = model, problem, advice
        super().__init__(f"{model}: {problem}; {advice}")


class NoDevice(LoraProbeError, ValueError):
    """A device that this machine does not have."""

    def __init__(self, *, device: str, problem: str) -> None:
        self.device, self.problem = device, problem
        super().__init__(f"--device {device}: {problem}")


class MissingLibrary(LoraProbeError, ImportError):
    """What was asked for needs a library that is not installed."""

    def __init__(self, *, what: str, package: str, install: str) -> None:
        self.what, self.package, self.install = what, package, install
        super().__init__(f"{what} needs {package}, which is not installed: pip install {install}")


class BadPilotOption(LoraProbeError, ValueError):
    """A number or a word that no pilot can be run with."""

    def __init__(self, *, option: str, value: object, problem: str) -> None:
        self.option, self.value, self.problem = option, value, problem
        super().__init__(f"{option} {problem}, got {printable(str(value), limit=60)}")


class NotStackable(LoraProbeError, ValueError):
    """A candidate cannot be stacked: stacking was asked for, or only training has shown it."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(f"this cannot be stacked: {reason}; take --engine reference")


class NoCluster(LoraProbeError, ConnectionError):
    """A Ray cluster that does not answer, or does not do as one."""

    def __init__(self, *, address: str, problem: str, advice: str) -> None:
        self.address, self.problem, self.advice = address, problem, advice
        super().__init__(f"the Ray cluster {address}: {problem}; {advice}")
