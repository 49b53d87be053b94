"""What can go wrong in a pilot, each a class that builds its own sentence."""

from __future__ import annotations

from lora_probe.errors import LoraProbeError

__all__ = ["OutOfMemory"]


class OutOfMemory(LoraProbeError, MemoryError):
    """A wave of trials did not fit into the device's memory."""

    def __init__(self, *, trials: int, device: str) -> None:
        self.trials, self.device = trials, device
        super().__init__(
            f"{trials} trial(s) at once do not fit into the memory of {device}; "
            "lower --wave, --batch-size or --max-length"
        )
