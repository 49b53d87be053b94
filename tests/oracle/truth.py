"""Inject with the real `peft.get_peft_model` on the meta device and report what is trained.

A model is used for many cases: the tree is noted before an injection and put back after it, which costs a
fraction of what building or copying the model does.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, get_peft_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from lora_probe.peft_rules import LoraSettings

__all__ = ["Trained", "inject", "injected"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What PEFT trains, by the names that the tensors have in an adapter's file."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shape by name; where several names share one storage, each has an entry."""
    parameters: int
    """Elements, each storage once."""
    modules: tuple[str, ...]
    """Full names of the modules that `target_modules` matched."""
    targets: tuple[str, ...]
    """Full names of the parameters that `target_parameters` matched."""
    warnings: tuple[str, ...]


def inject(model: nn.Module, settings: LoraSettings) -> Trained:
    """Return what `get_peft_model` trains for `settings`; the model is as before afterwards.

    Whatever PEFT raises comes through.
    """
    with injected(model, settings) as (peft_model, seen):
        shapes: dict[str, tuple[int, ...]] = {}
        storages: defaultdict[int, int] = defaultdict(int)
        for name, parameter in peft_model.named_parameters(remove_duplicate=False):
            if parameter.requires_grad:
                shapes[file_name(name)] = tuple(parameter.shape)
                storages[parameter.untyped_storage()._cdata] = parameter.numel()
        tuner = peft_model.base_model
        return Trained(
            shapes=shapes,
            parameters=sum(storages.values()),
            modules=tuple(tuner.targeted_module_names),
            targets=tuple(tuner.targeted_parameter_names),
            warnings=tuple(seen),
        )


@contextmanager
def injected(model: nn.Module, settings: LoraSettings) -> Iterator[tuple[nn.Module, list[str]]]:
    """Yield the injected model and the warnings of the injection; take everything out again at the end."""
    with _put_back(model), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = LoraConfig(**settings.to_lora_config())
        with torch.device("meta"):
            peft_model = get_peft_model(model, config)
        yield peft_model, [str(warning.message) for warning in caught]


def file_name(name: str) -> str:
    """Return a parameter's name in an injected model as the adapter's file has it."""
    name = re.sub(r"\.modules_to_save\.default(?=\.)", "", name)
    name = re.sub(r"(\.lora_magnitude_vector)\.default\.weight$", r"\1", name)
    return re.sub(r"\.default(?=\.|$)", "", name)


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Restore the module tree, the parameters and their flags, and the attributes of `model`."""
    modules = [(module, dict(module._modules), dict(module._parameters)) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    attributes = set(vars(model))
    try:
        yield
    finally:
        for module, children, parameters in modules:
            module._modules.clear()
            module._modules.update(children)
            module._parameters.clear()
            module._parameters.update(parameters)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for name in set(vars(model)) - attributes:
            delattr(model, name)
