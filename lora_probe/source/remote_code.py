"""Classes from a model's own repository, loaded by transformers' own loader. Only ever run on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_probe.errors import UnknownArchitecture
from lora_probe.source.architecture import Choice, choose_class, first_architecture, own_code
from lora_probe.source.records import SourceKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lora_probe.source.records import Located

__all__ = ["load_own_classes"]

_MODELS = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM", "AutoModel")
"""Auto classes whose entry is tried in turn where none names the config's own architecture."""


def load_own_classes(located: Located, *, token: str | bool | None = None) -> Choice:
    """Load the classes that the config's ``auto_map`` names, running their module's code.

    What ``auto_map`` leaves out comes from transformers.

    Raises:
        UnknownArchitecture: there is neither a folder nor a repository to take the code from.

    """
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    config = located.config or {}
    origin = _origin(located)
    revision = located.revision

    def load(reference: str) -> Any:
        return get_class_from_dynamic_module(reference, origin, revision=revision, token=token)

    references = own_code(config)
    config_class = load(references["AutoConfig"]) if "AutoConfig" in references else None
    reference = _model_reference(config, references)
    if reference is None:
        return choose_class(config, config_class=config_class)
    model_class = load(reference)
    return Choice(model_class=model_class, config_class=config_class or model_class.config_class)


def _origin(located: Located) -> str:
    """Return the folder or repository that holds the code, as transformers takes it."""
    local = located.kind in {SourceKind.FOLDER, SourceKind.CONFIG}
    if local and located.folder is not None:
        return str(located.folder)
    if located.repository is not None:
        return located.repository
    raise UnknownArchitecture(
        problem=f"{located.model} has code of its own, but no place to load it from",
        advice="give its folder or its hub id",
    )


def _model_reference(config: Mapping[str, Any], references: Mapping[str, str]) -> str | None:
    """Return the entry of the config's own architecture, else that of the likeliest auto class."""
    models = {key: text for key, text in references.items() if key.startswith("AutoModel")}
    architecture = first_architecture(config)
    named = [text for text in models.values() if text.rpartition(".")[2] == architecture]
    ranked = [models[key] for key in (*_MODELS, *models) if key in models]
    return next(iter([*named, *ranked]), None)
