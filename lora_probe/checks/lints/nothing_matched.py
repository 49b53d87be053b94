"""A regular expression that matches nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lora_probe.checks.lints.string_for_list import listed_in
from lora_probe.checks.near import USUAL_NAMES, quoted, suggestion
from lora_probe.checks.records import Severity
from lora_probe.checks.renames import rewritten_pattern
from lora_probe.checks.rule import Hit, Rule
from lora_probe.peft_rules.matching import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lora_probe.checks.case import Case

_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]{2,}")
_FEW = 4


def _examine(case: Case) -> Iterator[Hit]:
    pattern = case.settings.target_modules
    if not isinstance(pattern, str) or case.written or case.adapters or listed_in(case):
        return
    if rewritten_pattern(case.graph, pattern) is not None or (case.refusal and case.refusal.rule == "regex"):
        return
    matches = compiled(pattern, field="target_modules").fullmatch
    inside = [leaf for leaf in case.leaves if matches(leaf)]
    if inside:
        fix = f"put .* before it: the whole path must match, not only {quoted(inside[:3])}"
    elif meant := _meant(case, matches):
        fix = "; ".join(f"for {name}: {suggestion(case, name)}" for name in meant[:_FEW])
    else:
        words = [word for word in _WORD.findall(pattern) if word not in case.leaves]
        fix = suggestion(case, words[-1] if words else pattern)
    yield Hit(message=f"no module's full path matches the regular expression {pattern!r}", fix=fix)


def _meant(case: Case, matches: Callable[[str], object]) -> list[str]:
    """Return the usual names that the expression would match beside the layers of this model."""
    first = (site.path for site in case.graph.sites if not site.layer)
    parents = dict.fromkeys(path.rpartition(".")[0] for path in first)
    return [name for name in USUAL_NAMES if any(matches(f"{parent}.{name}") for parent in parents)]


RULE = Rule(
    name="nothing-matched",
    severity=Severity.ERROR,
    happens="PEFT raises: a string matches none of the modules.",
    why="A string is a regular expression that must match the whole path of a module (re.fullmatch), from "
    "its first character to its last.",
    fix="Begin the expression with .* and end it with the layer's own name, or give a list of names.",
    sources=("hiyouga/LlamaFactory#1785", "peft/tuners/tuners_utils.py, check_target_module_exists"),
    examine=_examine,
)
