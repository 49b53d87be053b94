"""A pilot on a Ray cluster: one process asks, logs and keeps; workers train waves for it."""

from __future__ import annotations

from lora_probe.piloting.cluster.options import Cluster

__all__ = ["Cluster"]
