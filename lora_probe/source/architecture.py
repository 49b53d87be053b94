"""Which class of the installed transformers a config asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.errors import UnknownArchitecture
from lora_probe.graph import Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Choice", "choose_class", "first_architecture", "own_code"]

_DECODER_HEADS = ("MODEL_FOR_CAUSAL_LM_MAPPING", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING")
_ENCODER_DECODER_HEADS = ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING")
"""Auto mappings tried in turn where a config names no architecture: what people fine-tune comes first."""
_BASE = ("MODEL_MAPPING",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The classes that a config will be built with."""

    model_class: Any
    """A subclass of ``transformers.PreTrainedModel``."""
    config_class: Any
    """A subclass of ``transformers.PreTrainedConfig`` that `model_class` accepts."""
    notes: tuple[Note, ...] = ()


def choose_class(config: Mapping[str, Any], *, config_class: Any = None) -> Choice:
    """Choose by ``architectures[0]`` where the installed transformers has it, else by ``model_type``.

    A class named by the config is built only with a config class that it accepts: its own where the type is
    unknown or missing (Kimi-K2, old BERTs). Where type and class contradict each other the type decides, as
    in ``AutoModel``. A named class that is not installed leaves the head unknown: then the base model of the
    type is built, as ``AutoModel`` does, and a note says so. `config_class` is given where it is known
    already: for a live config, whose class may be registered with transformers or not.

    Raises:
        UnknownArchitecture: neither the type nor the class is known.

    """
    model_type, architecture = _text(config.get("model_type")), first_architecture(config)
    config_class = config_class or _config_class(model_type)
    named = _installed(architecture)
    if named is not None and _accepts(named, config_class):
        return Choice(model_class=named, config_class=config_class)
    if named is not None and config_class is None and not _is_other_generation(model_type, named):
        notes = (_unknown_type(model_type, named),) if model_type else ()
        return Choice(model_class=named, config_class=named.config_class, notes=notes)
    if config_class is None:
        raise _unknown(config, model_type=model_type, architecture=None if named else architecture)
    fitting = list(_fitting(config_class, head=architecture is None or named is not None))
    registered = [each for each in fitting if each.__name__ == architecture]
    for built in registered or fitting:
        notes = (_other_class(architecture, built, model_type),) if architecture and not registered else ()
        return Choice(model_class=built, config_class=config_class, notes=notes)
    raise UnknownArchitecture(
        problem=f"transformers {_version()} has no model class to choose for {config_class.__name__}",
        advice="name one in the config's architectures",
    )


def first_architecture(config: Mapping[str, Any]) -> str | None:
    """Return ``architectures[0]``, None where the config names no class."""
    named = config.get("architectures")
    return _text(named[0]) if isinstance(named, list) and named else None


def own_code(config: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the config's ``auto_map``: which auto class is which class of the repository's own files."""
    value = config.get("auto_map")
    if not isinstance(value, dict):
        return {}
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _installed(name: str | None) -> Any:
    """Return the model class of that name in the installed transformers, None where there is none."""
    import transformers

    if name is None:
        return None
    try:
        found = getattr(transformers, name, None)
    except (ImportError, RuntimeError):  # its module needs a library that is not installed
        return None
    return found if _is_model(found) else None


def _is_model(found: object) -> bool:
    from transformers import PreTrainedModel

    is_model = isinstance(found, type) and issubclass(found, PreTrainedModel)
    return is_model and isinstance(getattr(found, "config_class", None), type)


def _config_class(model_type: str | None) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type] if model_type is not None and model_type in CONFIG_MAPPING else None


def _accepts(model_class: Any, config_class: Any) -> bool:
    return config_class is not None and issubclass(config_class, model_class.config_class)


def _is_other_generation(model_type: str | None, named: Any) -> bool:
    """Tell rwkv5, with other layers than the class of rwkv that it names, from a type that borrows one."""
    known = named.config_class.model_type
    return bool(model_type and known and model_type.startswith(known) and model_type[len(known) :].isdigit())


def _fitting(config_class: Any, *, head: bool) -> Iterator[Any]:
    """Yield the classes of the auto mappings that accept the config; with a head first, or the base first."""
    from transformers.models.auto import modeling_auto

    mappings = {
        name: value for name, value in vars(modeling_auto).items() if name.endswith("_MAPPING")
    }  # in the order of the file
    heads = [_DECODER_HEADS, _ENCODER_DECODER_HEADS]
    if getattr(config_class, "is_encoder_decoder", False):
        heads.reverse()  # the causal head of such a type is its decoder alone
    first = [*heads[0], *heads[1], *_BASE] if head else [*_BASE]
    for name in dict.fromkeys([*first, *mappings]):
        if name not in mappings:
            continue
        try:
            found = mappings[name].get(config_class, None)
        except (ImportError, ValueError, AttributeError):  # its module needs a library that is not installed
            continue
        built = found[0] if isinstance(found, (tuple, list)) else found  # some types have two base models
        if _is_model(built) and _accepts(built, config_class):
            yield built


def _unknown_type(model_type: str, named: Any) -> Note:
    return Note(
        code="unknown-model-type",
        message=f"transformers {_version()} does not know model type {model_type}; built as "
        f"{named.__name__}, the class that the config names",
    )


def _other_class(architecture: str, built: Any, model_type: str | None) -> Note:
    return Note(
        code="other-class",
        message=f"the config names {architecture}, which transformers {_version()} does not have for "
        f"model type {model_type}; built {built.__name__} instead",
    )


def _unknown(
    config: Mapping[str, Any], *, model_type: str | None, architecture: str | None
) -> UnknownArchitecture:
    said = [*(f"model type {text!r}" for text in [model_type] if text)]
    said += [f"class {text!r}" for text in [architecture] if text]
    if not said:
        return UnknownArchitecture(
            problem="the config names neither model_type nor architectures",
            advice="add the model_type that transformers has for it, or give a folder with its safetensors",
        )
    advice = "allow the model's own code with --trust-remote-code" if own_code(config) else "upgrade it"
    return UnknownArchitecture(
        problem=f"transformers {_version()} has no {' and no '.join(said)}",
        advice=f"{advice}, or give a folder with the model's safetensors files",
    )


def _version() -> str:
    import transformers

    return str(transformers.__version__)
