"""What LoRAX refuses or ignores."""

from __future__ import annotations

from lora_probe.checks.serving.engine import Engine
from lora_probe.checks.serving.punica import LAYERS, limits

ENGINE = Engine(
    name="lorax",
    title="LoRAX",
    limits=limits(LAYERS | {"lm_head"}, source="lorax/server/lorax_server/adapters/lora.py"),
)
