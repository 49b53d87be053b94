"""The command line that makes a pilot again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_probe.piloting.records import Plan

__all__ = ["pilot_command"]


def pilot_command(plan: Plan) -> str:
    """Return the command line of `plan`, quoted for a shell."""
    return shlex.join(["lora-probe", "pilot", plan.model.model, "--data", plan.data.source])
