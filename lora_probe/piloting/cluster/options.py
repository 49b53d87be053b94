"""Which cluster, and how much of it one wave of trials gets. Pure: no Ray."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cluster"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A Ray cluster as the options of a pilot describe it."""

    address: str | None = None
    """``host:port`` of its head, or ``auto`` for one that runs on this machine; None starts one here."""
    gpus: float | None = None
    """Of a worker, which trains one wave at a time; None: one where the pilot's device is CUDA, else none."""
    cpus: float | None = None
    """Of a worker; None: one beside a GPU, else as many as this process has threads."""
