"""Checks: what PEFT will really do with a target set on a model, and what servers will make of the result."""

from __future__ import annotations

from lora_probe.checks.records import Finding, Findings, Severity
from lora_probe.checks.registry import explain, rules
from lora_probe.checks.run import check

__all__ = ["Finding", "Findings", "Severity", "check", "explain", "rules"]
