"""A regular expression that PEFT cuts down to last segments, so that it reaches more than it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Adaptable
from lora_probe.patterns import collapse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case

_MOST_NAMES = 6


def _examine(case: Case) -> Iterator[Hit]:
    target = case.settings.target_modules
    if not isinstance(target, str) or case.settings.is_all_linear or not case.written:
        return
    written = frozenset(case.written)
    more = [
        adapter.site.path
        for adapter in case.adapters
        if adapter.site
        and adapter.site.adaptable is Adaptable.MODULE
        and adapter.module not in written
        # ensure_weight_tying adds what no expression names, and is asked to
        and not (case.settings.ensure_weight_tying and adapter.module in case.embeddings)
    ]
    if more:
        names = case.written if len(case.written) <= _MOST_NAMES else ()
        yield Hit(
            message=f"the expression names {len(written)} modules, PEFT adapts {len(more)} more: it keeps "
            "only the last segment of what the expression matches",
            paths=tuple(more),
            fix=f"write the list {quoted(names)}"
            if names
            else "write the full paths as a list, which stays as it is: "
            f"{', '.join(str(pattern) for pattern in collapse(case.written))}",
        )


RULE = Rule(
    name="pattern-widened",
    severity=Severity.ERROR,
    happens="An expression for some layers or for one tower adapts all layers and towers.",
    why="For 29 mixture-of-experts types PEFT replaces an expression by the last segments of the names it "
    "matches, in order to translate expert names; what stood before them is lost.",
    fix="Give a list of full paths, or a list of names with layers_to_transform.",
    sources=("peft/utils/transformers_weight_conversion.py, _resolve_string_target_modules",),
    examine=_examine,
)
