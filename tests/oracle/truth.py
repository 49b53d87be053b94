"""Inject with the real `peft.get_peft_model` on the meta device and report what is trained.

A model is used for many cases: the tree is noted before an injection and put back after it, which costs a
fraction of what building or copying the model does.
"""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

__all__ = ["Trained", "inject", "injected"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What PEFT trains, by the names that the tensors have in an adapter's file."""

    tensors: Mapping[str, tuple[int, ...]]
    """Shape by name, of the first name of each storage."""
    aliases: Mapping[str, str]
    """The first name of the storage, by each further name of it."""
    parameters: int
    """Elements, each storage once."""
    modules: tuple[str, ...]
    """Full names of the modules that `target_modules` matched."""
    targets: tuple[str, ...]
    """Full names of the parameters that `target_parameters` matched."""
    warnings: tuple[str, ...]


def inject(model: nn.Module, fields: Mapping[str, Any]) -> Trained:
    """Return what `get_peft_model` trains; the model is as before afterwards.

    `fields` are arguments of `LoraSettings`. Whatever PEFT raises comes through.
    """
    with injected(model, fields) as (peft_model, seen):
        tensors: dict[str, tuple[int, ...]] = {}
        aliases: dict[str, str] = {}
        owners: dict[int, str] = {}
        elements = 0
        for full_name, parameter in peft_model.named_parameters(remove_duplicate=False):
            if not parameter.requires_grad:
                continue
            name = file_name(full_name)
            owner = owners.setdefault(parameter.untyped_storage()._cdata, name)
            if owner == name:
                tensors[name] = tuple(parameter.shape)
                elements += parameter.numel()
            else:
                aliases[name] = owner
        tuner = peft_model.base_model
        return Trained(
            tensors=tensors,
            aliases=aliases,
            parameters=elements,
            modules=tuple(tuner.targeted_module_names),
            targets=tuple(tuner.targeted_parameter_names),
            warnings=tuple(seen),
        )


@contextmanager
def injected(model: nn.Module, fields: Mapping[str, Any]) -> Iterator[tuple[nn.Module, list[str]]]:
    """Yield the injected model and the warnings of the injection; take everything out again at the end."""
    with _put_back(model), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = LoraConfig(
            **{_PEFT_NAMES.get(name, name): _as_json(value) for name, value in fields.items()}
        )
        with torch.device("meta"):
            peft_model = get_peft_model(model, config)
        yield peft_model, [str(warning.message) for warning in caught]


_PEFT_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}


def _as_json(value: Any) -> Any:
    """Return `value` as a JSON file would hold it: PEFT changes lists in place and knows no tuples."""
    if isinstance(value, tuple):
        return list(value)
    return {key: _as_json(each) for key, each in value.items()} if isinstance(value, dict) else value


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
