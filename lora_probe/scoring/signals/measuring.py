"""A few passes through the frozen model, from which all three signals are taken at once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lora_probe.piloting.engine.initial import initial_a
from lora_probe.piloting.engine.loss import item_losses, model_inputs
from lora_probe.piloting.engine.memory import memory_guard
from lora_probe.scoring.signals.activation_norm import FeatureNorm, frobenius_norm
from lora_probe.scoring.signals.consistency import Moments
from lora_probe.scoring.signals.gradient_energy import FactorGradient
from lora_probe.scoring.signals.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from lora_probe.graph import Site
    from lora_probe.piloting.data import Batch
    from lora_probe.piloting.records import Task

__all__ = ["Measured", "Passes", "measure"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One module; see `SiteScore`."""

    nfn: float | None
    tokens: int
    padding_masked: bool
    energy: float
    consistent_energy: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """What came of all passes."""

    modules: Mapping[str, Measured]
    """By path; modules that were never called are missing."""
    loss: float
    """Nats per labelled token."""
    tokens: int


def measure(
    model: nn.Module,
    sites: Sequence[Site],
    batches: Sequence[Batch],
    *,
    task: Task,
    rank: int,
    scale: float,
    seed: int,
) -> Passes:
    """Send micro-batches forward and backward through a frozen model in evaluation mode; see the signals.

    The loss of a micro-batch is the mean over its labelled tokens. The model is left as it was. Each path of
    `sites` must name a module that maps (…, in_features) to (…, out_features).

    Raises:
        OutOfMemory: a micro-batch does not fit.

    """
    device = next(model.parameters()).device
    probes = {site.path: _Probe(model, site, rank=rank, scale=scale, seed=seed) for site in sites}
    nats, labelled = 0.0, 0
    with memory_guard(1, device), _watched(probes) as look:
        for batch in batches:
            look(Tokens(batch, task))
            inputs = {
                name: value.to(device) if isinstance(value, torch.Tensor) else value
                for name, value in model_inputs(model, batch).items()
            }
            with torch.enable_grad():
                logits = model(**inputs).logits
                sums, counts = item_losses(logits, batch.labels.to(logits.device), task)
                tokens = int(counts.sum())
                loss = sums.sum() / max(1, tokens)
                if loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
            nats, labelled = nats + float(sums.detach().sum()), labelled + tokens
            for probe in probes.values():
                probe.end_batch()
    return Passes(
        modules={path: probe.measured() for path, probe in probes.items() if probe.called},
        loss=nats / max(1, labelled),
        tokens=labelled,
    )


class _Probe:
    """What is collected at one module."""

    def __init__(self, model: nn.Module, site: Site, *, rank: int, scale: float, seed: int) -> None:
        self.module, self.called = model.get_submodule(site.path), False
        self._site, self._dtype = site, torch.float32
        device = next(iter([*self.module.parameters(), *self.module.buffers()])).device
        a = initial_a(site.path, seed=seed, rank=rank, in_features=site.in_features).to(device)
        self._norm, self._moments = FeatureNorm(), Moments()
        self._factor = FactorGradient(a, site.out_features, scale)

    def see(self, x: Tensor, y: Tensor, tokens: Tokens, trigger: Tensor) -> Tensor:
        self.called, self._dtype = True, x.dtype
        bias: Any = getattr(self.module, "bias", None)
        x = x.to(y.device)  # accelerate moves inputs inside of a layer
        with torch.no_grad():
            self._norm.add(x.detach(), y.detach(), bias, tokens.kept(self._site, x))
        return self._factor.tap(x, y, trigger) if torch.is_grad_enabled() else y

    def end_batch(self) -> None:
        self._moments.add(self._factor.take())

    def measured(self) -> Measured:
        with torch.no_grad():
            weight_norm = frobenius_norm(self.module, self._site.in_features, self._dtype)
        return Measured(
            nfn=self._norm.value(self._site.in_features, weight_norm),
            tokens=self._norm.tokens,
            padding_masked=self._norm.padding_masked,
            energy=self._moments.energy,
            consistent_energy=self._moments.consistent_energy,
        )


@contextmanager
def _watched(probes: Mapping[str, _Probe]) -> Iterator[Callable[[Tokens], None]]:
    """Let each probe see the calls of its module; yield what says which tokens come next."""
    now: list[Tokens] = []
    triggers: dict[torch.device, Tensor] = {}
    hooks = []

    def hook(probe: _Probe) -> Any:
        def seen(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], y: Any) -> Any:
            x = next((each for each in (*arguments, *named.values()) if isinstance(each, torch.Tensor)), None)
            if x is None or not isinstance(y, torch.Tensor):
                return None
            trigger = triggers.setdefault(y.device, torch.zeros((), device=y.device, requires_grad=True))
            return probe.see(x, y, now[0], trigger)

        return seen

    try:
        hooks += [
            probe.module.register_forward_hook(hook(probe), with_kwargs=True) for probe in probes.values()
        ]
        yield lambda tokens: now.__setitem__(slice(None), [tokens])
    finally:
        for each in hooks:
            each.remove()
