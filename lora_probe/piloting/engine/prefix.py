"""The frozen layers below the first adapted one: computed once for a batch, replayed for all trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_probe.piloting.engine.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["SharedPrefix", "frozen_layers", "layer_lists"]


class _PrefixDone(BaseException):
    """Ends a pass once the last frozen layer has spoken: no error that a model's own code may catch."""


def layer_lists(model: nn.Module) -> dict[str, str]:
    """Return the path of every layer -> that of its list: members of module lists, the outermost ones."""
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(path.startswith(f"{layer}.") for layer in found):
            found.update((f"{path}.{name}" if path else name, path) for name, _ in module.named_children())
    return found


def frozen_layers(called: Sequence[str], adapted: set[str]) -> tuple[str, ...]:
    """Return the layers that run before anything adapted does.

    `called` are the paths of layers and adapted modules in the order in which a forward enters them; a layer
    that is entered twice shares its weights over depth and ends the prefix, as one that holds something
    adapted does.
    """
    found: list[str] = []
    for path in called:
        inside = path in adapted or any(each.startswith(f"{path}.") for each in adapted)
        if inside or called.count(path) > 1:
            break
        found.append(path)
    return tuple(found)


class SharedPrefix:
    """Layers that run once for the batch as it is; a stacked pass gets what they returned, for each trial.

    Of each list of layers only the last is kept: those before it return an empty stand-in of the right shape.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], layers: Sequence[str], lists: Mapping[str, str]
    ) -> None:
        self.layers = tuple(layers)
        self._final = self.layers[-1]
        self._needed = {lists[layer]: layer for layer in self.layers}.values()
        self._mode = "off"
        self._trials, self._rows = 1, 0
        self._outputs: dict[str, Any] = {}
        self._patches = Patches()
        self._modules = modules

    def install(self) -> None:
        """Let the layers record and replay."""
        for layer in self.layers:
            self._patches.replace(self._modules[layer], self._layer(layer))

    def record(self, model: nn.Module, inputs: dict[str, Any], *, rows: int, trials: int) -> None:
        """Run the layers on a batch of `rows`, for `trials` copies of it."""
        self._mode, self._rows, self._trials = "record", rows, trials
        try:
            with torch.no_grad():
                model(**inputs)
        except _PrefixDone:
            pass
        finally:
            self._mode = "off"

    def replay(self, *, on: bool) -> None:
        """Let the next passes take what was recorded, or no more."""
        self._mode = "replay" if on else "off"
        if not on:
            self._outputs.clear()

    def remove(self) -> None:
        """Give the layers back as they were."""
        self._patches.undo()

    def _layer(self, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            def layer(*arguments: Any, **named: Any) -> Any:
                if self._mode == "replay":
                    return self._stacked(self._outputs[path], real=path in self._needed)
                output = forward(*arguments, **named)
                if self._mode == "record":
                    self._outputs[path] = output if path in self._needed else _hollow(output)
                    if path == self._final:
                        raise _PrefixDone
                return output

            return layer

        return make

    def _stacked(self, output: Any, *, real: bool) -> Any:
        """Return an output for all trials: whatever has a row for each item is repeated."""
        if isinstance(output, Tensor):
            if output.dim() == 0 or output.shape[0] != self._rows:
                return output
            if real:
                return output.repeat(self._trials, *[1] * (output.dim() - 1))
            return output.new_zeros(()).expand(self._rows * self._trials, *output.shape[1:])
        if isinstance(output, tuple | list):
            return type(output)(self._stacked(each, real=real) for each in output)
        return output


def _hollow(output: Any) -> Any:
    """Return an output of the same shape that takes no memory."""
    if isinstance(output, Tensor):
        return output.new_zeros(()).expand(output.shape)
    if isinstance(output, tuple | list):
        return type(output)(_hollow(each) for each in output)
    return output
