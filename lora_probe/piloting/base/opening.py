"""What can be known of a model before its weights are loaded: its files, its task and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.base.files import weights_folder
from lora_probe.piloting.errors import UnfitModel
from lora_probe.piloting.records import Task
from lora_probe.source import locate
from lora_probe.source.architecture import first_architecture, own_code
from lora_probe.source.files import is_file
from lora_probe.source.isolation import isolated
from lora_probe.text import printable

if TYPE_CHECKING:
    import os
    from pathlib import Path

__all__ = ["Opened", "open_model", "reason"]

_ADAPTER = "adapter_config.json"
_LONGEST_REASON = 200
_BY_NAME = {
    "ForSequenceClassification": Task.SEQUENCE_CLASSIFICATION,
    "ForTokenClassification": Task.TOKEN_CLASSIFICATION,
    "ForMaskedLM": Task.MASKED_LM,
    "ForCausalLM": Task.CAUSAL_LM,
    "LMHeadModel": Task.CAUSAL_LM,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Opened:
    """A model whose files are all here; nothing of its weights has been read."""

    model: str
    folder: Path
    revision: str | None
    config: dict[str, Any]
    """The raw ``config.json``."""
    trust_remote_code: bool

    def likely_task(self) -> Task:
        """Return the task that the checkpoint was made for, as far as its config tells."""
        architecture = first_architecture(self.config) or ""
        for ending, task in _BY_NAME.items():
            if architecture.endswith(ending) and not self.config.get("is_encoder_decoder"):
                return task
        if self.config.get("is_encoder_decoder"):
            return Task.SEQ2SEQ
        from transformers.models.auto import modeling_auto

        masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        return Task.MASKED_LM if self.config.get("model_type") in masked else Task.CAUSAL_LM

    def head_classes(self, task: Task) -> tuple[str, ...]:
        """Return the names of the classes that the checkpoint's head knows; none where it has no head."""
        names = self.config.get("id2label")
        classifies = task in {Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION}
        if not (classifies and task is self.likely_task() and isinstance(names, dict)):
            return ()
        numbered = {str(number): str(name) for number, name in names.items()}
        found = (numbered.get(str(number)) for number in range(len(numbered)))
        return tuple(name for name in found if name is not None)

    def tokenizer(self) -> Any:
        """Return the tokenizer beside the weights.

        Raises:
            UnfitModel: there is none, or it cannot be read.

        """
        from transformers import AutoTokenizer

        try:
            with isolated(own_code=self.trust_remote_code):
                return AutoTokenizer.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=self.trust_remote_code
                )
        except Exception as error:  # a tokenizer's code may raise anything
            raise UnfitModel(
                model=self.model,
                problem=f"there is no tokenizer that can be read ({reason(error)})",
                advice="put its tokenizer.json and tokenizer_config.json beside the weights",
            ) from error


def open_model(
    model: str | os.PathLike[str],
    *,
    source: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    trust_remote_code: bool = False,
) -> Opened:
    """Find a model with its weights, downloading what only the hub has.

    Raises:
        NoWeights: its config is known, its weights are not to be had.
        UnfitModel: it has no config, an adapter beside its weights, or code of its own only.
        ModelNotFound, HubError, …: as :func:`lora_probe.source.locate`.

    """
    located = locate(model, source=source, revision=revision, token=token)
    folder = weights_folder(located, token=token, trust_remote_code=trust_remote_code)
    if located.config is None:
        raise UnfitModel(
            model=located.model,
            problem="there is no config.json beside the weights",
            advice="add the model's",
        )
    if is_file(folder / _ADAPTER):
        raise UnfitModel(
            model=located.model,
            problem=f"an adapter ({_ADAPTER}) lies beside its weights and would be loaded with them",
            advice="move it elsewhere, or merge it into the weights first",
        )
    if own_code(located.config) and not trust_remote_code and "model_type" not in located.config:
        raise UnfitModel(
            model=located.model,
            problem="it is made of code of its own, which does not run unasked",
            advice="allow it with --trust-remote-code where you trust its author",
        )
    return Opened(
        model=located.model,
        folder=folder,
        revision=located.revision,
        config=located.config,
        trust_remote_code=trust_remote_code,
    )


def reason(error: Exception) -> str:
    """Return the type and the first words of an error that is not ours, on one line."""
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}".rstrip(": "), limit=_LONGEST_REASON)
