"""Engines: how trials are really trained, side by side on one frozen model or one by one through PEFT."""

from __future__ import annotations

from lora_probe.piloting.engine.protocols import Engine, Session, StepReport

__all__ = ["Engine", "Session", "StepReport"]
