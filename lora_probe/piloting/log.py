"""The log of a pilot: append-only lines of JSON that survive whatever ends the process.

Every line is one measurement (`Result`) or one step of the work itself (`Wave`, `Saved`), with the id of the
wave that it belongs to. What is appended together is one write, brought to the disk before the call returns.
A last line that was cut off is as if it had never been written; each process of a sharded run has a file of
its own, and reading merges them.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.encoding import encoded
from lora_probe.piloting.encoding import NotARecord, decoded
from lora_probe.piloting.errors import DamagedLog, UnwritableRun
from lora_probe.piloting.records import Evaluated, Failed, Result, Trained, Trial, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Entry", "History", "Log", "Reader", "Saved", "Wave", "has_begun", "read_history"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """Trials of one pass; written before the pass begins, so that a resumed one is the same."""

    id: str
    round: int
    """How often the protocol was asked before it asked for these trials."""
    unit: Unit
    trials: tuple[Trial, ...]
    """Some or all trials of the unit, in the order of the pass."""
    engine: str
    """How its engine spreads trials: what makes another engine the same; see `Engine.choice`."""
    size: int | None = None
    """The most trials of a wave at that time; None for any number."""
    replaces: str | None = None
    """The wave that did not fit, of which this one is a half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A checkpoint of all trials of a wave; everything up to `step` is in the log."""

    wave: str
    trials: tuple[Trial, ...]
    step: int
    file: str


Entry = Wave | Saved | Result
_KINDS: dict[str, type] = {
    "wave": Wave, "saved": Saved, "trained": Trained, "evaluated": Evaluated, "failed": Failed,
}  # fmt: skip
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PATTERN = "results*.jsonl"
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All entries of a pilot so far, of all its processes, each with its wave's id."""

    entries: tuple[tuple[str, Entry], ...]

    @property
    def waves(self) -> tuple[Wave, ...]:
        """The waves that were begun, in the order of each process."""
        return tuple(entry for _, entry in self.entries if isinstance(entry, Wave))

    @property
    def saved(self) -> tuple[Saved, ...]:
        """The checkpoints that were written."""
        return tuple(entry for _, entry in self.entries if isinstance(entry, Saved))

    def results(self, *, before_round: int | None = None) -> tuple[Result, ...]:
        """Return the measurements, all or those of the rounds before one; of what was repeated, the last."""
        rounds = {wave.id: wave.round for wave in self.waves}
        found: dict[object, Result] = {}
        for wave, entry in self.entries:
            if isinstance(entry, (Wave, Saved)):
                continue
            if before_round is None or rounds[wave] < before_round:
                found[_key(entry)] = entry
        return tuple(found.values())


class Log:
    """The file that one process appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._repair()

    def append(self, entries: Sequence[tuple[str, Entry]]) -> None:
        """Write entries, each with its wave's id, so that all of them survive, or none.

        Raises:
            UnwritableRun: the disk is full or gone; what was written before is untouched.

        """
        lines = (
            json.dumps({"kind": _NAMES[type(entry)], "of": wave, **encoded(entry)}) for wave, entry in entries
        )
        text = "".join(f"{line}\n" for line in lines).encode()
        try:
            file = os.open(self.path, _APPENDING, 0o644)
            try:
                _write_all(file, text)
            finally:
                os.close(file)
        except OSError as error:
            raise UnwritableRun(path=str(self.path), error=error) from error

    def _repair(self) -> None:
        """Cut off what a killed process left of its last line."""
        try:
            with self.path.open("r+b") as file:
                data = file.read()
                whole = sum(len(line) for line in _whole_lines(data))
                if whole < len(data):
                    file.truncate(whole)
                    os.fsync(file.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnwritableRun(path=str(self.path), error=error) from error


class Reader:
    """Reads what the processes of a pilot log, each line once, however often it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[Path, list[tuple[str, Entry]]] = {}
        self._read: dict[Path, int] = {}
        """Bytes of whole lines that are behind us."""
        self._begun: set[str] = set()
        self._spoken_of: set[str] = set()
        """Waves that were begun, and those that anything is of."""

    def read(self) -> History:
        """Return everything that is in the log now.

        Raises:
            DamagedLog: a line other than a file's last is no entry, or is of a wave that never began.

        """
        for path in sorted(self._folder.glob(_PATTERN)):
            self._continue(path)
        for wave in sorted(self._spoken_of - self._begun):
            raise DamagedLog(path=str(self._folder), problem=f"there is no wave {wave}")
        return History(
            entries=tuple(entry for path in sorted(self._entries) for entry in self._entries[path])
        )

    def _continue(self, path: Path) -> None:
        entries = self._entries.setdefault(path, [])
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = _whole_lines(file.read())
        except OSError as error:
            reason = error.strerror or str(error)
            raise DamagedLog(path=str(path), line=len(entries) + 1, problem=reason) from error
        for line in lines:
            try:
                wave, entry = _parsed(line)
            except (ValueError, RecursionError) as error:
                raise DamagedLog(path=str(path), line=len(entries) + 1, problem=str(error)) from error
            entries.append((wave, entry))
            self._spoken_of.add(wave)
            if isinstance(entry, Wave):
                self._begun.add(entry.id)
            self._read[path] = self._read.get(path, 0) + len(line)


def has_begun(folder: Path) -> bool:
    """Return whether a process of a pilot in `folder` logged anything."""
    return any(path.stat().st_size for path in folder.glob(_PATTERN))


def read_history(folder: Path) -> History:
    """Return everything that the processes of a pilot logged in `folder`.

    Raises:
        DamagedLog: a line other than a file's last is no entry.

    """
    return Reader(folder).read()


def _parsed(line: bytes) -> tuple[str, Entry]:
    document = json.loads(line)
    if not isinstance(document, dict):
        raise NotARecord("it is no object")
    kind, wave = document.pop("kind", None), document.pop("of", None)
    if not isinstance(kind, str) or kind not in _KINDS or not isinstance(wave, str):
        raise NotARecord("it names no kind or no wave")
    entry: Entry = decoded(_KINDS[kind], document)
    if isinstance(entry, Evaluated) and len(entry.nll) != len(entry.tokens):
        raise NotARecord(f"it has {len(entry.nll)} losses of {len(entry.tokens)} items")
    return wave, entry


def _whole_lines(data: bytes) -> list[bytes]:
    """Return the lines of a log but for a last one that was cut off.

    After a loss of power a file may have its new length but not its new bytes: they are zero, or end in what
    is no JSON. Only a last line may be so.
    """
    lines = data.rstrip(b"\0").splitlines(keepends=True)
    if lines and not _is_whole(lines[-1]):
        lines.pop()
    return lines


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line) is not None
    except ValueError:
        return False


def _write_all(file: int, text: bytes) -> None:
    before = os.fstat(file).st_size
    try:
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):  # works on a full disk; else the next process cuts it off
            os.ftruncate(file, before)
        raise


def _key(result: Result) -> object:
    if isinstance(result, Evaluated):
        return Evaluated, result.trial, result.step, result.split
    if isinstance(result, Trained):
        return Trained, result.trial, result.start
    return Failed, result.trial
