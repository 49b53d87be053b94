"""A name, or names with commas between them, where PEFT reads a regular expression."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

_NAMES = re.compile(r"[\w.-]+(\s*,\s*[\w.-]+)*")


def listed_in(case: Case) -> tuple[str, ...]:
    """Return the names that the string of `target_modules` would be as a list; none if it is a pattern."""
    target = case.settings.target_modules
    if (
        not isinstance(target, str)
        or case.settings.is_all_linear
        or case.written
        or not _NAMES.fullmatch(target)
    ):
        return ()
    names = tuple(name.strip() for name in target.split(","))
    return names if any(case.matches(name) for name in names) else ()


def _examine(case: Case) -> Iterator[Hit]:
    if names := listed_in(case):
        yield Hit(
            message=f"target_modules={case.settings.target_modules!r} is a string: PEFT reads it as a "
            "regular expression, which matches no full path",
            fix=f"write the list {json.dumps(names)}",
        )
    elif len(case.names) == 1 and case.adapters and not case.request.is_exact:
        name = case.names[0]
        yield Hit(
            severity=Severity.INFO,
            message=f"a list of one name: TRL's --lora_target_modules {name} hands it to PEFT as the string "
            f'"{name}", a regular expression that matches nothing',
            fix=f'where a string is all that fits, write the expression ".*\\.{re.escape(name)}"',
        )


RULE = Rule(
    name="string-for-list",
    severity=Severity.ERROR,
    happens='target_modules="q_proj" matches nothing and PEFT raises, though every layer has a q_proj.',
    why="PEFT reads a list as names and a string as one regular expression that must match a whole path. TRL "
    "turns a list of one into a string.",
    fix='Write a list, ["q_proj"], or a full expression, ".*\\.q_proj".',
    sources=(
        "peft/tuners/tuners_utils.py, check_target_module_exists",
        "trl/trainer/model_config.py, ModelConfig.__post_init__",
    ),
    examine=_examine,
)
