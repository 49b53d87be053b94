"""The folder of a pilot: its plan beside its log, and nothing of anybody else's."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager, suppress
from os.path import exists
from typing import TYPE_CHECKING, Any

from lora_probe.encoding import encoded
from lora_probe.errors import UnknownChoice
from lora_probe.piloting.checkpoint import write_bytes
from lora_probe.piloting.encoding import NotARecord, decoded
from lora_probe.piloting.errors import (
    BadPilotOption,
    ChangedUnderneath,
    DamagedLog,
    ForeignFolder,
    NoPilot,
    PlanDiffers,
    UnwritableFolder,
)
from lora_probe.piloting.log import has_begun
from lora_probe.piloting.ranges import check_candidates, check_protocol, check_training
from lora_probe.piloting.records import Plan
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lora_probe.piloting.records import Trial

__all__ = [
    "ADAPTERS",
    "CHECKPOINTS",
    "PLAN",
    "adapter_name",
    "agree_on_plan",
    "differences",
    "discarded_unless_begun",
    "prepared_folder",
    "read_plan",
]

PLAN = "plan.json"
CHECKPOINTS = "checkpoints"
ADAPTERS = "adapters"
_FORMAT = "lora-probe pilot, version 1"
_LONGEST_NAME = 60
_BEFORE_THE_PLAN = ("lock", f"{PLAN}.")
"""How the names begin of what a process leaves that was killed before it had written its plan."""
_MAY_DIFFER = frozenset({"versions", "wave", "command"})
"""What bears on the speed of a run, or on its last digits, and not on what it measures."""


@contextmanager
def prepared_folder(folder: Path) -> Iterator[None]:
    """Have the folder while the block runs, and afterwards if it was there before or something is in it.

    Raises:
        ForeignFolder: it is a file, or holds something else.
        UnwritableFolder: it cannot be made or looked into.

    """
    new = [path for path in (folder, *folder.parents) if not exists(path)]  # noqa: PTH110 - answers, whatever the path
    try:
        _prepare(folder)
        yield
    finally:
        for path in new:
            with suppress(OSError, ValueError):
                path.rmdir()  # only if nothing is in it


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir())
    except FileExistsError:
        problem = "it is a file" if folder.exists() else "it is a link that leads nowhere"
        raise ForeignFolder(path=str(folder), problem=problem) from None
    except (OSError, ValueError) as error:  # the latter of a name with a null character
        reason = getattr(error, "strerror", "") or str(error)
        raise UnwritableFolder(path=str(folder), reason=reason) from error
    others = [name for name in names if not name.startswith(_BEFORE_THE_PLAN)]
    if others and PLAN not in names:
        shown = ", ".join(printable(name, limit=40) for name in others[:3])
        raise ForeignFolder(path=str(folder), problem=f"it holds something else ({shown})")
    if PLAN in names:
        read_plan(folder)


@contextmanager
def discarded_unless_begun(folder: Path, *, is_shared: Callable[[], bool]) -> Iterator[None]:
    """Take a plan that the block wrote away again where it breaks off before anything was logged.

    Not where `is_shared` says that another process goes by it. The folder is to be held meanwhile.
    """
    was_there = (folder / PLAN).exists()
    try:
        yield
    except BaseException:
        if not (was_there or has_begun(folder) or is_shared()):
            with suppress(OSError):
                (folder / PLAN).unlink()
        raise


def read_plan(folder: Path) -> Plan:
    """Return the plan of the pilot in `folder`.

    Raises:
        NoPilot: there is none.
        ForeignFolder: its ``plan.json`` is another program's.
        DamagedLog: it is this program's, and cannot be read.

    """
    path = folder / PLAN
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = "it holds no pilot" if folder.is_dir() else "there is no such folder"
        raise NoPilot(path=str(folder), problem=problem) from None
    except NotADirectoryError:
        raise NoPilot(path=str(folder), problem="it is a file") from None
    except (OSError, ValueError) as error:  # the latter of what is no UTF-8, or of a null in the path
        reason = getattr(error, "strerror", "") or str(error)
        raise NoPilot(path=str(folder), problem=f"its {PLAN} cannot be read ({reason})") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ForeignFolder(path=str(folder), problem=f"its {PLAN} is no plan of this version of lora-probe")
    try:
        plan = decoded(Plan, document.get("plan"), where="plan")
        check_training(plan.training)
        check_protocol(plan.protocol)
        check_candidates(plan.candidates)
    except (NotARecord, BadPilotOption, UnknownChoice) as error:
        raise DamagedLog(path=str(path), problem=str(error)) from error
    return plan


def agree_on_plan(folder: Path, plan: Plan) -> Plan:
    """Write the plan where there is none, else make sure that it is the same; returns the one that holds.

    Raises:
        PlanDiffers: the folder's plan is another one; says how.
        ChangedUnderneath: the weights or the examples are others than they were.
        UnwritableRun: it cannot be written.

    """
    if not (folder / PLAN).exists():
        document = {"format": _FORMAT, "plan": encoded(plan)}
        write_bytes(folder / PLAN, (json.dumps(document, indent=1) + "\n").encode())
        return plan
    kept = read_plan(folder)
    if found := differences(kept, plan):
        raise PlanDiffers(path=str(folder), differences=found)
    for what, source, before, now in (
        ("model", plan.model.model, kept.model.fingerprint, plan.model.fingerprint),
        ("data", _sources(plan), kept.data.fingerprint, plan.data.fingerprint),
    ):
        if before != now:
            raise ChangedUnderneath(path=str(folder), what=what, source=source)
    return kept


def _sources(plan: Plan) -> str:
    retention = plan.data.retention
    return f"{plan.data.source} (with {retention} as retention text)" if retention else plan.data.source


def adapter_name(plan: Plan, trial: Trial) -> str:
    """Return the name of the folder of a trial's adapter: unique in the plan, and harmless as a name."""
    number = [candidate.name for candidate in plan.candidates].index(trial.candidate)
    words = re.sub(r"[^A-Za-z0-9_.]+", "-", trial.candidate)[:_LONGEST_NAME].strip("-.")
    again = f"-again{trial.repeat}" if trial.repeat else ""
    return f"{number}-{words}-lr{trial.learning_rate:.6g}-seed{trial.seed}{again}"


def differences(kept: Plan, given: Plan, *, places: tuple[str, str] = ("there", "here")) -> tuple[str, ...]:
    """Return one clause for each field in which two plans differ, fingerprints and what they hash aside.

    `places` say which plan is meant, as adverbs.

    Where a fingerprint is the same, another path to the same model or data is no difference; where it is not,
    what follows from the content (counts, candidates' paths) goes unsaid.
    """
    before, now = encoded(kept), encoded(given)
    for plan in (before, now):
        for name in _MAY_DIFFER:
            plan.pop(name)
        plan["data"].pop("sources")  # its source says the same
        plan["candidates"] = {each["name"]: each for each in plan["candidates"]}
    _leave_out_content(before, now, part="model", names=("model",), content=("total_parameters",))
    content = (
        "train_examples",
        "tuning_examples",
        "test_examples",
        "train_tokens",
        "truncated_examples",
        "duplicates_removed",
        "retention_examples",
    )
    _leave_out_content(before, now, part="data", names=("source", "retention"), content=content)
    return tuple(_differences(before, now, "", places))


def _leave_out_content(
    before: Any, now: Any, *, part: str, names: tuple[str, ...], content: tuple[str, ...]
) -> None:
    same = before[part]["fingerprint"] == now[part]["fingerprint"]
    for plan in (before, now):
        plan[part].pop("fingerprint")
        for field in names if same else content:
            plan[part].pop(field)


def _differences(before: Any, now: Any, where: str, places: tuple[str, str]) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            place = f"{where}.{name}" if where else name
            if name not in now or name not in before:
                yield f"{printable(place, limit=80)} is only {places[name in now]}"
            else:
                yield from _differences(before[name], now[name], place, places)
    elif before != now:
        shown = (printable(json.dumps(each), limit=60) for each in (before, now))
        there, here = places
        yield f"{printable(where, limit=80)} is {next(shown)} {there} and {next(shown)} {here}"
