"""Carrying out a plan on a cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lora_probe.piloting.cluster import Cluster
from lora_probe.piloting.cluster.connection import connected
from lora_probe.piloting.cluster.crew import Crew, Needs
from lora_probe.piloting.cluster.worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from lora_probe.piloting.options import Settings
    from lora_probe.piloting.preparation import Prepared

__all__ = ["open_crew"]


@contextmanager
def open_crew(
    prepared: Prepared,
    settings: Settings,
    *,
    wave: int | None,
    layout: str | None,
    folder: Path,
    tell: Callable[[str], None],
) -> Iterator[Crew]:
    """Connect to a cluster and have workers there while the block runs; see `connected` for what it raises.

    `wave` and `layout` are those of `make_engine`. The base of this process is given up: workers have theirs.
    """
    import torch

    plan, cluster = prepared.plan, settings.cluster or Cluster()
    threads = torch.get_num_threads() if cluster.cpus is None else max(1, int(cluster.cpus))
    on_cuda = plan.device == "cuda"
    needs = Needs(
        gpus=float(on_cuda) if cluster.gpus is None else cluster.gpus,
        cpus=cluster.cpus if cluster.cpus is not None else 1 if on_cuda else threads,
    )
    job = Job(
        plan=plan,
        data=prepared.data,
        folder=str(folder),
        model=plan.model.model,
        opening=settings.model,
        loading={**settings.base, "device": plan.device, "dtype": plan.model.dtype},
        threads=None if on_cuda else threads,
        wave=wave,
        layout=layout,
    )
    _give_up(prepared.base.model)
    with connected(cluster) as ray:
        address = cluster.address or "of this machine"
        yield Crew(ray=ray, job=job, needs=needs, tell=tell, address=address)


def _give_up(model: nn.Module) -> None:
    """Free the memory of a model's weights, whatever holds on to its modules."""
    import torch

    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
