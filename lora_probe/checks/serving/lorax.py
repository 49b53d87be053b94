"""What LoRAX refuses or ignores."""

from __future__ import annotations

from lora_probe.checks.serving.engine import Engine
from lora_probe.checks.serving.punica import limits

ENGINE = Engine(
    name="lorax",
    title="LoRAX",
    limits=limits(
        source="lorax/server/lorax_server/adapters/lora.py", adapt_head=frozenset({"llama", "mistral"})
    ),
)
