"""What a check found, as records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from lora_probe.frames import frame_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from lora_probe.peft_rules import LoraSettings

__all__ = ["Finding", "Findings", "Severity"]


class Severity(str, Enum):
    """How bad a finding is."""

    ERROR = "error"
    """PEFT or the server will refuse it, or something that was asked for will silently not happen."""
    WARNING = "warning"
    """It works, but seldom as intended."""
    INFO = "info"
    """Worth knowing, and nothing to repair."""

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that a rule has to say about one target set on one model."""

    rule: str
    """Stable name of the rule; `lora_probe.checks.explain` says more."""
    severity: Severity
    message: str
    paths: tuple[str, ...] = ()
    """Full names of the modules, parameters or tensors that it is about, in the order of the model."""
    fix: str = ""
    """One line that says what to write instead."""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "message": self.message,
            "paths": list(self.paths),
            "fix": self.fix,
        }


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that a check has to say, the worst first; iterates over the findings."""

    model: str
    targets: str
    """The target set as it was written."""
    rank: int
    matched: int
    """Adapters that PEFT will make; 0 where it refuses."""
    trainable_parameters: int
    """Elements that will be trained; 0 where PEFT refuses."""
    total_parameters: int
    """Elements of the model itself."""
    settings: LoraSettings
    """What was handed to PEFT, field by field."""
    findings: tuple[Finding, ...]

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings, the worst first."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Return the number of findings."""
        return len(self.findings)

    def of(self, rule: str) -> tuple[Finding, ...]:
        """Return the findings of one rule."""
        return tuple(finding for finding in self.findings if finding.rule == rule)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that found something, each once."""
        return tuple(dict.fromkeys(finding.rule for finding in self.findings))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as JSON types; sizes are exact integers, in elements."""
        return {
            "model": self.model,
            "targets": self.targets,
            "rank": self.rank,
            "matched": self.matched,
            "trainable_parameters": self.trainable_parameters,
            "total_parameters": self.total_parameters,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the findings as one JSON document in ASCII."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a finding, with the number of paths and the first of them."""
        columns = ["rule", "severity", "message", "count", "first_path", "fix"]
        rows = [
            [
                finding.rule,
                finding.severity.value,
                finding.message,
                len(finding.paths),
                finding.paths[0] if finding.paths else None,
                finding.fix,
            ]
            for finding in self.findings
        ]
        return frame_of(rows, columns)
