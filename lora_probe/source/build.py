"""A config becomes a module tree on the meta device: every name and shape, no memory for weights."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.errors import BuildError, LoraProbeError
from lora_probe.source.architecture import Choice, choose_class
from lora_probe.source.isolation import isolated, quiet
from lora_probe.source.limits import bounded
from lora_probe.source.plausible import require_plausible
from lora_probe.source.records import Located
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from lora_probe.graph import Note

__all__ = ["Built", "build"]

_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
_DROPPED = frozenset({
    "auto_map", "quantization_config", "_name_or_path", "name_or_path",
    # An attention implementation may be a repository whose kernels transformers downloads and runs.
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "_attn_implementation_autoset", "experts_implementation", "_experts_implementation",
    "_experts_implementation_internal", "use_kernels",
})  # fmt: skip
"""Fields that say how a model is fetched, stored or run, and nothing about its logical shapes."""
_LONGEST_REASON = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A module tree without weights."""

    module: nn.Module
    """Parameters lie on the meta device, in the element type of the config."""
    architecture: str
    """Name of the class that was built."""
    config: Mapping[str, Any]
    """The config as given, quantization and all."""
    notes: tuple[Note, ...] = ()


def build(source: Located | Mapping[str, Any] | Any, *, trust_remote_code: bool = False) -> Built:
    """Build the model of a located config, a config dict, or a live ``PreTrainedConfig``.

    Quantized models are built with their logical shapes; neither the quantizer's library nor a GPU is needed.

    Raises:
        UnknownArchitecture: the installed transformers has no class for the config.
        ImplausibleConfig: a size is negative, no number, or beyond any published model.
        BuildError: the model class refused the config; says why.
        BuildTooLarge: building passed a bound of time, memory or modules.

    """
    with quiet():
        config = _config_dict(source)
        require_plausible(config)
        choice = choose_class(config)
    module = _instantiate(choice, _logical(config))
    return Built(
        module=module,
        architecture=type(module).__name__,
        config=config,
        notes=choice.notes,
    )


def _config_dict(source: Any) -> dict[str, Any]:
    """Return the raw config of whatever can be built."""
    if isinstance(source, Located):
        if source.config is None:
            raise BuildError(
                architecture=source.model, reason="no config.json", advice="add the model's config.json"
            )
        return source.config
    if isinstance(source, dict):
        return source
    return _from_live(source)


def _from_live(config: Any) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    if not isinstance(config, PreTrainedConfig):
        raise TypeError(f"expected a config, got {type(config).__name__}")
    document = config.to_dict()
    return {**document, "model_type": document.get("model_type") or config.model_type}


def _logical(config: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without what does not bear on names and shapes, at every level."""
    copy = {key: value for key, value in config.items() if key not in _DROPPED}
    for key, value in copy.items():
        if isinstance(value, dict):
            copy[key] = _logical(value)
    for key in ("dtype", "torch_dtype"):
        if isinstance(given := copy.get(key), str):
            name = given.removeprefix("torch.")
            copy[key] = name if name in _DTYPES else None
    return deepcopy(copy)


def _instantiate(choice: Choice, config: dict[str, Any], *, network: bool = False) -> nn.Module:
    """Run the classes of `choice`, whatever they may do."""
    import torch

    name = choice.model_class.__name__
    try:
        with isolated(network=network), bounded(name), torch.device("meta"), _creation_ops():
            module: nn.Module = choice.model_class._from_config(choice.config_class.from_dict(config))  # noqa: SLF001
    except LoraProbeError:
        raise
    except Exception as error:  # a model class may raise anything
        raise BuildError(architecture=name, reason=_reason(error), advice=_advice(error)) from error
    return module.eval()


def _creation_ops() -> Any:
    """Let classes read numbers from tensors while they are built, as ``from_pretrained`` does."""
    from transformers import initialization

    make = getattr(initialization, "meta_device_safe_creation_ops", nullcontext)
    return make()


def _reason(error: Exception) -> str:
    """Return the error's type and text on one line."""
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}".rstrip(": "), limit=_LONGEST_REASON)


def _advice(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install that library, or give a folder with the model's safetensors files"
    return "check the field, or give a folder with the model's safetensors files"
