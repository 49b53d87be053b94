"""A config becomes a module tree on the meta device: every name and shape, no memory for weights."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lora_probe.errors import BuildError, BuildTooLarge, LoraProbeError, UnknownArchitecture
from lora_probe.graph import Note
from lora_probe.source.architecture import choose_class, own_code
from lora_probe.source.isolation import isolated, quiet
from lora_probe.source.limits import bounded
from lora_probe.source.plausible import require_plausible
from lora_probe.source.records import Located
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from lora_probe.source.architecture import Choice

__all__ = ["Built", "build"]

_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
_NOT_SHAPES = frozenset({
    "auto_map", "quantization_config", "_name_or_path", "name_or_path",
    # An attention implementation may be a repository whose kernels transformers downloads and runs.
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "_attn_implementation_autoset", "experts_implementation", "_experts_implementation",
    "_experts_implementation_internal",
})  # fmt: skip
"""Fields that say how a model is fetched, stored or run, and nothing about its logical shapes."""
_MAX_PARAMETERS = 10**15
"""Elements of one model; a thousand times the largest published ones."""
_LONGEST_REASON = 200
_TORCH_FRAMES = "Exception raised from"
"""Where the C++ stack begins in some of torch's messages."""
_Result = TypeVar("_Result")


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
    """What a reader must know of the build; the look-up has notes of its own."""


def build(
    source: Located | Mapping[str, Any] | Any,
    *,
    trust_remote_code: bool = False,
    token: str | bool | None = None,
) -> Built:
    """Build the model of a located config, a config dict, or a live ``PreTrainedConfig``.

    Quantized models get their logical shapes; neither the quantizer's library nor a GPU is needed. With
    `trust_remote_code`, classes that the config's ``auto_map`` names are loaded from its folder or
    repository (`token` as huggingface_hub takes it) and run.

    Raises:
        UnknownArchitecture: the installed transformers has no class for the config.
        ImplausibleConfig: a size is negative, no number, or beyond any published model.
        BuildError: the model class refused the config, or its code could not be loaded; says why.
        BuildTooLarge: building passed a bound of time, memory or modules.

    """
    # First imported here, not under guard: its log handlers keep the stderr that they find.
    with quiet():
        import transformers  # noqa: F401

    config, config_class = _parse(source)
    require_plausible(config)
    if trust_remote_code and own_code(config) and isinstance(source, Located):
        choice = _load_own_classes(source, token=token)
        module = _instantiate(choice, _logical(config), own_code=True)
        notes = choice.notes
    else:
        with quiet():
            choice = choose_class(config, config_class=config_class)
        module = _instantiate(choice, _logical(config), own_code=False)
        notes = (*choice.notes, *_refused_code(config))
    return Built(module=module, architecture=type(module).__name__, config=config, notes=notes)


def _parse(source: Any) -> tuple[dict[str, Any], Any]:
    """Return the raw config of whatever can be built, and its class where that is known."""
    if isinstance(source, Located):
        if source.config is None:
            raise UnknownArchitecture(
                problem=f"{source.model} has no config.json", advice="add the one of the model"
            )
        return source.config, None
    if isinstance(source, dict):
        return source, None
    from transformers import PreTrainedConfig

    if not isinstance(source, PreTrainedConfig):
        raise TypeError(f"expected a module, a config or the name of a model, got {type(source).__name__}")
    return source.to_dict(), type(source)


def _logical(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without what does not bear on names and shapes, at every level."""
    copy: dict[str, Any] = {}
    for key, value in config.items():
        if key in {"dtype", "torch_dtype"}:
            copy[key] = _known_dtype(value)
        elif key not in _NOT_SHAPES:
            copy[key] = _logical_value(value)
    return copy


def _logical_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _logical(value)
    return [_logical_value(item) for item in value] if isinstance(value, list) else value


def _known_dtype(value: Any) -> str | None:
    """Return a dtype that a module can be built in, None (transformers' own choice) for any other."""
    name = str(value).removeprefix("torch.")
    return name if name in _DTYPES else None


def _load_own_classes(located: Located, *, token: str | bool | None) -> Choice:
    from lora_probe.source.remote_code import load_own_classes

    def load() -> Choice:
        with isolated(own_code=True):
            return load_own_classes(located, token=token)

    return _convert_errors(f"the own code of {located.model}", load)


def _instantiate(choice: Choice, config: dict[str, Any], *, own_code: bool) -> nn.Module:
    """Run the classes of `choice`, whatever they may do."""
    import torch

    name = choice.model_class.__name__

    def run() -> nn.Module:
        with isolated(own_code=own_code), bounded(name), torch.device("meta"), _creation_ops():
            config_object = choice.config_class.from_dict(config)
            module: nn.Module = choice.model_class._from_config(config_object)  # noqa: SLF001
            _require_countable(module, name)
            return module.eval()

    return _convert_errors(name, run)


def _require_countable(module: nn.Module, name: str) -> None:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if parameters > _MAX_PARAMETERS:
        raise BuildTooLarge(what=name, problem=f"{parameters:.3g} parameters")
    if parameters == 0:
        raise BuildError(architecture=name, reason="it would have no parameter", advice="check the sizes")


def _convert_errors(what: str, call: Callable[[], _Result]) -> _Result:
    """Turn whatever a class that is not ours raises into one sentence."""
    try:
        return call()
    except LoraProbeError:
        raise
    except Exception as error:
        raise BuildError(architecture=what, reason=_reason(error), advice=_advice(error)) from error


def _creation_ops() -> Any:
    """Let classes read numbers from tensors while they are built, as ``from_pretrained`` does."""
    from transformers import initialization

    make = getattr(initialization, "meta_device_safe_creation_ops", nullcontext)
    return make()


def _refused_code(config: Mapping[str, Any]) -> tuple[Note, ...]:
    if not own_code(config):
        return ()
    message = "the repository has model code of its own, which was not run; built with transformers' class"
    return (Note(code="remote-code-refused", message=message),)


def _reason(error: Exception) -> str:
    """Return the error's type and text on one line."""
    text = " ".join(str(error).partition(_TORCH_FRAMES)[0].split())
    if isinstance(error, ImportError):
        text = text.partition(". ")[0]  # then come general words about installing
    return printable(f"{type(error).__name__}: {text}".rstrip(": "), limit=_LONGEST_REASON)


def _advice(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install that library, or give a folder with the model's safetensors files"
    return "check the config, or give a folder with the model's safetensors files"
