"""Exports: a target set as the configuration of a trainer, or the reason why it has no words for it."""

from __future__ import annotations

from lora_probe.exporting.run import TRAINERS, export

__all__ = ["TRAINERS", "export"]
