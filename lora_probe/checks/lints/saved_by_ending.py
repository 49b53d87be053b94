"""An entry of `modules_to_save` that also takes modules whose names merely end like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    if case.prediction is None:
        return
    copied = {copy.path for copy in case.prediction.saved if not copy.tied}
    for entry in case.settings.modules_to_save:
        exact = set(case.inventory.paths.ending_with((entry,)))
        more = [path for path in case.inventory.paths if path in copied and path.endswith(entry)]
        more = [path for path in more if path not in exact]
        if more:
            names = dict.fromkeys(path.rpartition(".")[2] for path in more)
            yield Hit(
                message=f"modules_to_save entry {entry!r} also takes {quoted(names)}: PEFT compares how the "
                "paths end, not whole names",
                paths=tuple(more),
                fix=f"write the whole name, {quoted(names)}, if that is meant; else a longer ending",
            )


RULE = Rule(
    name="saved-by-ending",
    severity=Severity.WARNING,
    happens='modules_to_save=["head"] trains lm_head in full, and whatever else ends in head.',
    why="PEFT looks for paths that end with the entry, letter by letter; target_modules is compared by whole "
    "segments. Nor does the entry keep such a module from being adapted.",
    fix="Write whole names.",
    sources=("peft/utils/other.py, _set_trainable",),
    examine=_examine,
)
