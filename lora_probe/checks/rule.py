"""A rule: what it looks for, and everything that a person may want to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.checks.records import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lora_probe.checks.case import Case

__all__ = ["Hit", "Rule"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One place where a rule applies."""

    message: str
    paths: tuple[str, ...] = ()
    fix: str = ""
    severity: Severity | None = None
    """Where it differs from the rule's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One lint. Each module of `lora_probe.checks.lints` declares one as ``RULE``, which registers it."""

    name: str
    """Stable, in kebab case: people name it in scripts."""
    severity: Severity
    happens: str
    """What happens, in a sentence or two."""
    why: str
    """Why it does."""
    fix: str
    """What to do about it, in general; a hit's own fix names the names."""
    sources: tuple[str, ...]
    """Where people met it, or where the code is that does it: issues as ``owner/repository#number``."""
    examine: Callable[[Case], Iterable[Hit]]

    def findings(self, case: Case) -> list[Finding]:
        """Return what the rule finds in `case`."""
        return [
            Finding(
                rule=self.name,
                severity=hit.severity or self.severity,
                message=hit.message,
                paths=hit.paths,
                fix=hit.fix or self.fix,
            )
            for hit in self.examine(case)
        ]

    @property
    def explanation(self) -> str:
        """The rule's documentation as plain text."""
        return "\n".join(
            (
                f"{self.name} ({self.severity})",
                "",
                f"What happens: {self.happens}",
                f"Why: {self.why}",
                f"How to fix it: {self.fix}",
                f"Source: {', '.join(self.sources)}",
            )
        )
