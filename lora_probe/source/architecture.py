"""Which class of the installed transformers a config asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.errors import UnknownArchitecture
from lora_probe.graph import Note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Choice", "choose_class", "first_architecture", "own_code", "text_field"]

_HEADS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
)
"""Auto mappings tried in turn where a config names no architecture: what people fine-tune comes first."""
_BASE = "MODEL_MAPPING_NAMES"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The classes that a config will be built with."""

    model_class: Any
    """A subclass of ``transformers.PreTrainedModel``."""
    config_class: Any
    """A subclass of ``transformers.PreTrainedConfig`` that `model_class` accepts."""
    notes: tuple[Note, ...] = ()


def choose_class(config: Mapping[str, Any]) -> Choice:
    """Choose by ``architectures[0]`` where the installed transformers has it, else by ``model_type``.

    A class named by the config is built only with a config class that it accepts: its own where the type is
    unknown or missing (Kimi-K2, old BERTs), and where type and class contradict each other the type decides,
    as in ``AutoModel``. A named class that is not installed leaves the head unknown: then the base model of
    the type is built, as ``AutoModel`` does, and a note says so.

    Raises:
        UnknownArchitecture: neither the type nor the class is known.

    """
    model_type, architecture = text_field(config, "model_type"), first_architecture(config)
    config_class = _config_class(model_type)
    named = _installed(architecture)
    if named is not None and _accepts(named, config_class):
        return Choice(model_class=named, config_class=config_class)
    if (
        named is not None
        and config_class is None
        and not _is_other_generation(model_type, named.config_class)
    ):
        notes = () if model_type is None else (_unknown_type(model_type, architecture),)
        return Choice(model_class=named, config_class=named.config_class, notes=notes)
    if config_class is None:
        raise _unknown(config, model_type, architecture if named is None else None)
    mappings = _mappings(head=architecture is None or named is not None)
    for mapping in mappings:
        built = _installed(_class_name(mapping.get(model_type)))
        if built is not None and _accepts(built, config_class):
            notes = () if architecture is None else (_other_class(architecture, built.__name__, model_type),)
            return Choice(model_class=built, config_class=config_class, notes=notes)
    raise _unknown(config, model_type, architecture)


def first_architecture(config: Mapping[str, Any]) -> str | None:
    """Return ``architectures[0]``, None where the config names no class."""
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str) and named[0]:
        return named[0]
    return None


def text_field(config: Mapping[str, Any], name: str) -> str | None:
    """Return the field if it is a string with something in it, else None."""
    value = config.get(name)
    return value if isinstance(value, str) and value else None


def own_code(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config's ``auto_map``: which auto class is which class of the repository's own files."""
    value = config.get("auto_map")
    return value if isinstance(value, dict) else {}


def _installed(name: str | None) -> Any:
    """Return the model class of that name in the installed transformers, None where there is none."""
    import transformers

    if name is None:
        return None
    try:
        found = getattr(transformers, name, None)
    except (ImportError, RuntimeError):  # its module needs a library that is not installed
        return None
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if is_model and getattr(found, "config_class", None) is not None else None


def _config_class(model_type: str | None) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type] if model_type is not None and model_type in CONFIG_MAPPING else None


def _accepts(model_class: Any, config_class: Any) -> bool:
    return config_class is not None and issubclass(config_class, model_class.config_class)


def _is_other_generation(model_type: str | None, config_class: Any) -> bool:
    """Tell rwkv5, which has other layers than the class of rwkv that it names, from a type that borrows."""
    known = config_class.model_type
    return bool(model_type and known and model_type.startswith(known) and model_type[len(known) :].isdigit())


def _mappings(*, head: bool) -> Iterator[Mapping[Any, Any]]:
    """Yield the tables of model type -> class name; with a head first, or without any."""
    from transformers.models.auto import modeling_auto

    tables = vars(modeling_auto)
    first = (*_HEADS, _BASE) if head else (_BASE,)
    rest = [name for name in tables if name.endswith("_MAPPING_NAMES") and name not in first]
    for name in (*first, *rest):
        yield tables.get(name, {})


def _class_name(value: Any) -> str | None:
    """Return the first name: some types have two base models."""
    name: str | None = value[0] if isinstance(value, (tuple, list)) else value
    return name


def _unknown_type(model_type: str, architecture: str | None) -> Note:
    return Note(
        code="unknown-model-type",
        message=f"transformers {_version()} does not know model type {model_type}; built as {architecture}, "
        "the class that the config names",
    )


def _other_class(architecture: str, built: str, model_type: str | None) -> Note:
    return Note(
        code="other-class",
        message=f"the config names {architecture}, which transformers {_version()} does not have for "
        f"model type {model_type}; built {built} instead",
    )


def _unknown(
    config: Mapping[str, Any], model_type: str | None, architecture: str | None
) -> UnknownArchitecture:
    said = [
        f"model type {model_type!r}" if model_type else "",
        f"class {architecture!r}" if architecture else "",
    ]
    if not any(said):
        return UnknownArchitecture(
            problem="the config names neither model_type nor architectures",
            advice="add the model_type that transformers has for it",
        )
    advice = (
        "allow the model's own code with --trust-remote-code, or give a folder with its safetensors files"
        if own_code(config)
        else "upgrade transformers, or give a folder with its safetensors files"
    )
    problem = f"transformers {_version()} has no {' or '.join(filter(None, said))}"
    return UnknownArchitecture(problem=problem, advice=advice)


def _version() -> str:
    import transformers

    return str(transformers.__version__)
