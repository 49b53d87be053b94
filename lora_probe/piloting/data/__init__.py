"""The data of a pilot: read as people have it, tokenized as TRL does, split by content, served by step.

`load_data` turns files, folders and dataset ids into `PilotData`; `batches` and `evaluation_batches` turn
that into tensors. The first knows nothing of torch, the second nothing of files.
"""

from __future__ import annotations

from lora_probe.piloting.data.batches import Batch, batches, evaluation_batches
from lora_probe.piloting.data.examples import DataOptions, Example, Masking, PilotData, TrainOn
from lora_probe.piloting.data.loading import load_data
from lora_probe.piloting.data.retention import with_retention

__all__ = [
    "Batch",
    "DataOptions",
    "Example",
    "Masking",
    "PilotData",
    "TrainOn",
    "batches",
    "evaluation_batches",
    "load_data",
    "with_retention",
]
