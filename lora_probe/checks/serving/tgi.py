"""What Text Generation Inference refuses or ignores."""

from __future__ import annotations

from lora_probe.checks.serving.engine import Engine
from lora_probe.checks.serving.punica import limits

ENGINE = Engine(
    name="tgi",
    title="Text Generation Inference",
    limits=limits(source="text-generation-inference/server/text_generation_server/adapters/lora.py"),
)
