"""What a module holds itself, without its children's; and what PEFT's wrappers hold inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

__all__ = ["base_of", "is_wrapper", "own_children", "own_parameters", "own_tensors"]

_INNER = ("base_layer", "original_module", "token_adapter", "base_model", "model")
"""Where PEFT's classes keep what they wrap: layers, modules_to_save and tokens, PeftModel, tuners."""


def own_parameters(module: nn.Module) -> Mapping[str, torch.Tensor]:
    """Return the parameters registered on `module`; unlike ``named_parameters`` with repeats."""
    return {name: each for name, each in module._parameters.items() if each is not None}  # noqa: SLF001


def own_tensors(module: nn.Module) -> Mapping[str, torch.Tensor]:
    """Return the parameters and buffers registered on `module`; quantized layers keep weights in either."""
    buffers = {name: each for name, each in module._buffers.items() if each is not None}  # noqa: SLF001
    return {**own_parameters(module), **buffers}


def own_children(module: nn.Module) -> Mapping[str, nn.Module]:
    """Return the modules registered on `module`; unlike ``named_children`` with repeats."""
    return {name: each for name, each in module._modules.items() if each is not None}  # noqa: SLF001


def base_of(module: nn.Module) -> nn.Module:
    """Return what `module` wraps where its class is PEFT's, through every wrapper; else the module itself."""
    while is_wrapper(module):
        children = own_children(module)
        inner = next((children[name] for name in _INNER if name in children), None)
        if inner is None:
            break
        module = inner
    return module


def is_wrapper(module: nn.Module) -> bool:
    """Return whether PEFT defines the class of `module`; PEFT itself need not be loaded."""
    return type(module).__module__.partition(".")[0] == "peft"
