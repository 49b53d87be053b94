"""Know what a LoRA will adapt, cost and break before you train it.

Public names are loaded on first use: ``import lora_probe`` loads neither torch nor transformers nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lora_probe._version import __version__

if TYPE_CHECKING:
    from lora_probe.budgeting import Budget, budget
    from lora_probe.checks import Finding, Findings, check
    from lora_probe.comparing import Difference, diff
    from lora_probe.errors import LoraProbeError
    from lora_probe.exporting import export
    from lora_probe.graph import Adaptable, Kind, Module, ModuleGraph, Note, Site, Uncovered
    from lora_probe.piloting.run import PilotReport, compare, pilot
    from lora_probe.scanner import scan
    from lora_probe.scoring import Scores, propose, score
    from lora_probe.targets import TargetSpec, emit, parse_targets, resolve

__all__ = [
    "Adaptable",
    "Budget",
    "Difference",
    "Finding",
    "Findings",
    "Kind",
    "LoraProbeError",
    "Module",
    "ModuleGraph",
    "Note",
    "PilotReport",
    "Scores",
    "Site",
    "TargetSpec",
    "Uncovered",
    "__version__",
    "budget",
    "check",
    "compare",
    "diff",
    "emit",
    "export",
    "parse_targets",
    "pilot",
    "propose",
    "resolve",
    "scan",
    "score",
]

_HOMES = {
    **dict.fromkeys(("Budget", "budget"), "lora_probe.budgeting"),
    **dict.fromkeys(("Finding", "Findings", "check"), "lora_probe.checks"),
    "LoraProbeError": "lora_probe.errors",
    **dict.fromkeys(("Difference", "diff"), "lora_probe.comparing"),
    "export": "lora_probe.exporting",
    **dict.fromkeys(("PilotReport", "compare", "pilot"), "lora_probe.piloting.run"),
    "scan": "lora_probe.scanner",
    **dict.fromkeys(("Scores", "propose", "score"), "lora_probe.scoring"),
    **dict.fromkeys(("TargetSpec", "emit", "parse_targets", "resolve"), "lora_probe.targets"),
    **dict.fromkeys(
        ("Adaptable", "Kind", "Module", "ModuleGraph", "Note", "Site", "Uncovered"), "lora_probe.graph"
    ),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
