"""The frozen base of a pilot: where its weights are, on which device they go, and what they are."""

from __future__ import annotations

from lora_probe.piloting.base.loading import Base, load_base, model_class_for
from lora_probe.piloting.base.opening import Opened, open_model
from lora_probe.piloting.base.packing import require_packable
from lora_probe.piloting.base.vocabulary import require_known_tokens

__all__ = [
    "Base",
    "Opened",
    "load_base",
    "model_class_for",
    "open_model",
    "require_known_tokens",
    "require_packable",
]
