"""Targets: which weights are to be adapted, in one language for people and in PEFT's for machines."""

from __future__ import annotations

from lora_probe.targets.emission import emit
from lora_probe.targets.grammar import parse_targets
from lora_probe.targets.presets import PRESETS
from lora_probe.targets.selection import resolve
from lora_probe.targets.spec import TargetSpec

__all__ = ["PRESETS", "TargetSpec", "emit", "parse_targets", "resolve"]
