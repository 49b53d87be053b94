"""A model as PEFT adapts it for one candidate, and the way back: every module, flag and weight as it was."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lora_probe.piloting.engine.initial import dropout_mask, initial_a, key
from lora_probe.piloting.engine.patches import Patches
from lora_probe.piloting.engine.saving import lora_arguments
from lora_probe.piloting.records import Arm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from lora_probe.piloting.records import Candidate, Plan, Trial

__all__ = ["Adapted", "adapt"]

_ADAPTER = "default"
_PREFIX = "base_model.model."
_FACTORS = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")


class Adapted:
    """What is trained for one trial, by name, until `restore` gives the model back."""

    def __init__(self, model: nn.Module, original: _Original, peft_model: Any = None) -> None:
        self._model, self._original, self._peft_model = model, original, peft_model
        self.trained: Mapping[str, nn.Parameter] = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self._factors: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.trained.items():
            if any(f".{factor}" in name for factor in _FACTORS):
                self._factors.setdefault(_site(name), []).append(parameter)
        self._masks = [module for module in model.modules() if isinstance(module, _KeyedDropout)]

    @property
    def adapters(self) -> tuple[str, ...]:
        """Paths of the adapted modules; of a bare parameter, the one of the module that holds it."""
        return tuple(self._factors)

    def is_idle(self, path: str) -> bool:
        """Return whether the adapter of a module has no gradient now, or only zeros."""
        return not any(each.grad is not None and bool(each.grad.any()) for each in self._factors[path])

    @contextmanager
    def training(self, step: int, micro_batch: int) -> Iterator[None]:
        """Let dropout drop, as it does at this step, while the block runs; else nothing is dropped."""
        for mask in self._masks:
            mask.moment = (step, micro_batch)
        try:
            yield
        finally:
            for mask in self._masks:
                mask.moment = None

    def save(self, folder: Path, plan: Plan) -> None:
        """Write a PEFT checkpoint."""
        if self._peft_model is None:
            raise ValueError("there is no adapter to save")
        config = self._peft_model.peft_config[_ADAPTER]
        config.base_model_name_or_path, config.revision = plan.model.model, plan.model.revision
        # "auto" would ask the hub how many rows the embedding has there.
        self._peft_model.save_pretrained(str(folder), save_embedding_layers=False)

    def restore(self) -> None:
        """Give the model back as it was; calling it twice is harmless."""
        self.trained = {}
        self._factors, self._masks, self._peft_model = {}, [], None
        self._original.restore(self._model)


def adapt(model: nn.Module, candidate: Candidate, trial: Trial, plan: Plan) -> Adapted:
    """Prepare `model` for one trial: nothing to train, PEFT's adapters, or every weight in float32."""
    original = _Original(model)
    model.requires_grad_(False).eval()
    try:
        if candidate.arm is Arm.LORA:
            peft_model = _with_adapters(model, candidate, trial, plan)
            original.protect()
            adapted = Adapted(model, original, peft_model)
        else:
            if candidate.arm is Arm.FULL:
                original.let_all_train(model)
            adapted = Adapted(model, original)
        if plan.training.gradient_checkpointing:
            original.checkpoint_layers(model)
    except BaseException:
        original.restore(model)
        raise
    return adapted


def _with_adapters(model: nn.Module, candidate: Candidate, trial: Trial, plan: Plan) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(**lora_arguments(candidate, plan))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # tied weights, unmatched parts: the check before the pilot says it better
        peft_model: Any = get_peft_model(model, config)
    for name, module in list(peft_model.named_modules()):
        if hasattr(module, "lora_A") and hasattr(module, "scaling"):
            _start(module, _site(f"{name}.lora_A"), trial, keyed=config.init_lora_weights is True)
    return peft_model


def _start(layer: Any, path: str, trial: Trial, *, keyed: bool) -> None:
    """Give a new layer its keyed A and its keyed dropout; PEFT's own B is zero already."""
    for name, dropout in list(layer.lora_dropout.items()):
        if isinstance(dropout, nn.Dropout):
            layer.lora_dropout[name] = _KeyedDropout(path, trial.seed, dropout.p)
    if not keyed:
        return
    with torch.no_grad():
        if _ADAPTER in layer.lora_A:
            weight = layer.lora_A[_ADAPTER].weight
            experts = getattr(layer, "num_experts", 1)
            parameter = getattr(layer, "parameter_name", None)
            where = path if parameter is None else f"{path}.{parameter}"
            names = [where] if experts == 1 else [f"{where}[{expert}]" for expert in range(experts)]
            features, rank = weight[0].numel(), weight.shape[0] // experts
            drawn = [initial_a(each, seed=trial.seed, rank=rank, in_features=features) for each in names]
            weight.copy_(torch.cat(drawn).view_as(weight))
        if _ADAPTER in layer.lora_embedding_A:
            weight = layer.lora_embedding_B[_ADAPTER]  # (features, rank): what PEFT draws of an embedding
            generator = torch.Generator().manual_seed(key("B", path, trial.seed))
            weight.copy_(torch.randn(weight.shape[::-1], generator=generator).T)


class _KeyedDropout(nn.Module):
    """Dropout whose mask depends on the adapter's path, the seed and the moment, and on nothing else."""

    def __init__(self, path: str, seed: int, probability: float) -> None:
        super().__init__()
        self.path, self.seed, self.p = path, seed, probability
        self.moment: tuple[int, int] | None = None
        """Step and micro-batch; None where nothing is dropped."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, (rows, …, in_features), with some of it dropped and the rest scaled up."""
        if self.moment is None:
            return x
        step, micro_batch = self.moment
        mask = dropout_mask(
            self.path, seed=self.seed, step=step, micro_batch=micro_batch, shape=tuple(x.shape),
            probability=self.p, device=x.device, dtype=x.dtype,
        )  # fmt: skip
        return x * mask


class _Original:
    """References to everything of a model that PEFT replaces, and what puts them back."""

    def __init__(self, model: nn.Module) -> None:
        self._children = {module: dict(module._modules) for module in model.modules()}  # noqa: SLF001
        self._modes = {module: module.training for module in model.modules()}
        self._trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self._attributes = set(vars(model))
        self._data: dict[nn.Parameter, Tensor] = {}
        self._patches = Patches()

    def let_all_train(self, model: nn.Module) -> None:
        """Train copies in float32 of all weights; the originals come back untouched."""
        for parameter in model.parameters():
            if not parameter.is_floating_point():
                raise ValueError("full fine-tuning needs a base that is not quantized")
            self._data[parameter] = parameter.data
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)

    def protect(self) -> None:
        """Train copies of those weights of the model itself that PEFT lets train, such as biases."""
        for parameter in self._trained:
            if parameter.requires_grad:
                self._data[parameter] = parameter.data
                parameter.data = parameter.data.clone()

    def checkpoint_layers(self, model: nn.Module) -> None:
        """Keep no activations inside of layers; the model's training mode, with its dropout, stays off."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        def make(forward: Callable[..., Any]) -> Callable[..., Any]:
            return partial(checkpoint, forward, use_reentrant=False)

        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                self._patches.replace(module, make)

    def restore(self, model: nn.Module) -> None:
        """Put everything back; calling it twice is harmless."""
        self._patches.undo()
        for module, children in self._children.items():
            module._modules.clear()  # noqa: SLF001
            module._modules.update(children)  # noqa: SLF001
            module.training = self._modes[module]
        for parameter, trained in self._trained.items():
            parameter.data = self._data.get(parameter, parameter.data)
            parameter.grad = None
            parameter.requires_grad_(trained)
        for name in set(vars(model)) - self._attributes:
            delattr(model, name)


def _site(name: str) -> str:
    """Return the path in the bare model of the module that a part of an adapter belongs to."""
    for factor in _FACTORS:
        name = name.partition(f".{factor}")[0]
    return name.removeprefix(_PREFIX).replace(".base_layer", "")
