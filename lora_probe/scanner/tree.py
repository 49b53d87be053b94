"""Every weight of a module tree, in order, each parameter counted where its name comes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_probe.graph import Module, Uncovered
from lora_probe.scanner.bypass import bypassed_children
from lora_probe.scanner.layers import weights_of
from lora_probe.scanner.members import base_of, is_wrapper, own_children, own_parameters, own_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn

    from lora_probe.scanner.weights import Weight

__all__ = ["Found", "Tree", "Visit"]


@dataclass(frozen=True, slots=True)
class Visit:
    """One module of the tree, with the class names from the root down to it."""

    path: str
    classes: tuple[str, ...]
    module: nn.Module

    def full(self, name: str) -> str:
        """Return the full name of what the module calls `name`."""
        return f"{self.path}.{name}" if self.path else name


@dataclass(frozen=True, slots=True)
class Found:
    """One weight in its place."""

    visit: Visit
    weight: Weight
    tensor: torch.Tensor
    tied_to: str | None
    """Full name of the parameter that this one is, where that came before."""
    bias_parameters: int


class Tree:
    """Everything below `root`: modules, weights, and the parameters that are no weight."""

    def __init__(self, root: nn.Module) -> None:
        self.modules: list[Module] = []
        self.found: list[Found] = []
        self.uncovered: list[Uncovered] = []
        self.wrappers = 0
        """Modules that PEFT has put around others."""
        self._paths: dict[int, str] = {}
        self._owners: dict[int, str] = {}
        self._claimed: set[str] = set()
        for visit in self._visits(root):
            bypassed, partly_bypassed = bypassed_children(visit.module)
            self.modules.append(
                Module(
                    path=visit.path,
                    class_name=visit.classes[-1],
                    bypassed=bypassed,
                    partly_bypassed=partly_bypassed,
                )
            )
            self._add(visit)

    def path_of(self, module: nn.Module | None) -> str | None:
        """Return where `module` was seen, None where it was not."""
        return None if module is None else self._paths.get(id(base_of(module)))

    def _visits(self, root: nn.Module) -> Iterator[Visit]:
        """Yield every distinct module once, parents first, in the order of ``named_modules()``."""
        pending = [Visit("", (type(root).__name__,), root)]
        while pending:
            visit = pending.pop()
            if id(visit.module) in self._paths:
                continue
            self._paths[id(visit.module)] = visit.path
            yield visit
            for name, child in reversed(list(own_children(visit.module).items())):
                inner = base_of(child)
                self.wrappers += is_wrapper(child)
                pending.append(Visit(visit.full(name), (*visit.classes, type(inner).__name__), inner))

    def _add(self, visit: Visit) -> None:
        """Sort what the module holds itself into weights, their biases, and uncovered parameters."""
        own = own_tensors(visit.module)
        if not own and "parametrizations" not in own_children(visit.module):
            return
        for weight in weights_of(visit.module):
            self._claimed.update(map(visit.full, weight.stored))
            tensor = own[weight.stored[0]] if weight.stored else visit.module.get_parameter(weight.name)
            tied_to = self._claim(tensor, visit.full(weight.name))
            bias_parameters = (
                self._claim_bias(visit.full(weight.bias), own[weight.bias]) if weight.bias else 0
            )
            self.found.append(Found(visit, weight, tensor, tied_to, bias_parameters))
        for name, parameter in own_parameters(visit.module).items():
            full = visit.full(name)
            if full not in self._claimed:
                self._leave(parameter, full, self._claim(parameter, full))

    def _claim_bias(self, name: str, bias: torch.Tensor) -> int:
        """Return the elements that a bias adds; one that came before adds none and is listed as such."""
        tied_to = self._claim(bias, name)
        if tied_to is None:
            return bias.numel()
        self._leave(bias, name, tied_to)
        return 0

    def _leave(self, parameter: torch.Tensor, name: str, tied_to: str | None) -> None:
        """List a parameter that no site counts, also a bias that comes again under another name."""
        self.uncovered.append(
            Uncovered(
                parameter=name,
                shape=tuple(parameter.shape),
                parameters=0 if tied_to else parameter.numel(),
                tied_to=tied_to,
            )
        )

    def _claim(self, parameter: torch.Tensor, name: str) -> str | None:
        """Take `name` as seen; return the name under which its parameter came before, None if it did not."""
        self._claimed.add(name)
        owner = self._owners.setdefault(id(parameter), name)
        return None if owner == name else owner
