"""The weights of a base, in the class that its task asks for: frozen, in evaluation mode, on its device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.errors import UnknownChoice
from lora_probe.piloting.base.files import fingerprint
from lora_probe.piloting.base.hardware import choose_device, choose_dtype, require_quantization
from lora_probe.piloting.base.opening import reason
from lora_probe.piloting.errors import UnfitModel
from lora_probe.piloting.records import ModelFacts, Task
from lora_probe.source.architecture import choose_class, own_code
from lora_probe.source.isolation import isolated, quiet
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from lora_probe.piloting.base.opening import Opened

__all__ = ["Base", "load_base", "model_class_for"]

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
_MAPPINGS = {
    Task.CAUSAL_LM: ("MODEL_FOR_CAUSAL_LM_MAPPING", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING"),
    Task.SEQ2SEQ: ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",),
    Task.MASKED_LM: ("MODEL_FOR_MASKED_LM_MAPPING",),
    Task.SEQUENCE_CLASSIFICATION: ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",),
    Task.TOKEN_CLASSIFICATION: ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",),
}
_AUTO_CLASSES = {
    Task.CAUSAL_LM: "AutoModelForCausalLM",
    Task.SEQ2SEQ: "AutoModelForSeq2SeqLM",
    Task.MASKED_LM: "AutoModelForMaskedLM",
    Task.SEQUENCE_CLASSIFICATION: "AutoModelForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "AutoModelForTokenClassification",
}
_CLASSIFICATION = frozenset({Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION})
_HEAD_SEED = 0
"""Draws a new classification head, the same for every arm and every process."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Base:
    """A loaded base."""

    model: nn.Module
    facts: ModelFacts
    device: torch.device
    new_modules: tuple[str, ...] = ()
    """Paths of what the checkpoint does not hold and training starts from chance: a classification head."""
    notes: tuple[str, ...] = ()


def load_base(
    opened: Opened,
    *,
    task: Task,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    device_map: str | None = None,
    classes: Sequence[str] = (),
    pad_token_id: int | None = None,
) -> Base:
    """Load the weights of an opened model.

    `device`, `dtype` and `quantization` (``4bit`` or ``8bit``) are the options of the command line;
    `device_map` spreads the base over several devices, as accelerate does it. `classes` are the names of a
    classification's classes, `pad_token_id` is what the data pads with.

    Raises:
        NoDevice, MissingLibrary, UnknownChoice: the machine does not have what is asked for.
        UnfitModel: it has no class for the task, its checkpoint is not whole, or it would be offloaded.

    """
    import torch

    if device_map is not None and device_map not in DEVICE_MAPS:
        raise UnknownChoice(option="--device-map", value=device_map, known=DEVICE_MAPS)
    where = choose_device(device)
    stored = str(opened.config.get("dtype") or opened.config.get("torch_dtype") or "float32")
    kind, note = choose_dtype(dtype, where, stored=stored.removeprefix("torch."))
    if quantization is not None:
        require_quantization(quantization, where)
    arguments: dict[str, Any] = {"dtype": kind, "use_safetensors": True, "local_files_only": True}
    if quantization is not None:
        arguments["quantization_config"] = _quantizer(quantization, kind)
    if device_map is not None or quantization is not None:
        arguments["device_map"] = device_map or {"": where}
    if task in _CLASSIFICATION:
        arguments |= {"num_labels": len(classes), "id2label": dict(enumerate(classes))}
        arguments["ignore_mismatched_sizes"] = True  # a head for other classes gives way to a new one
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_HEAD_SEED)
        model, missing = _load(opened, task, arguments)
    if device_map is None and quantization is None:
        model = model.to(where)
    if any(each.is_meta for each in model.parameters()):
        raise UnfitModel(
            model=opened.model,
            problem=f"it does not fit into the memory that --device-map {device_map} may use",
            advice="take more devices, or quantize it",
        )
    if pad_token_id is not None:
        for config in (model.config, model.config.get_text_config()):
            config.pad_token_id = pad_token_id
    facts = ModelFacts(
        model=opened.model,
        revision=opened.revision,
        architecture=type(model).__name__,
        fingerprint=fingerprint(opened.folder),
        total_parameters=_parameters(model),
        dtype=str(kind).removeprefix("torch."),
        quantization=quantization or _stored_quantization(model),
    )
    return Base(
        model=model.requires_grad_(False).eval(),
        facts=facts,
        device=next(model.parameters()).device,
        new_modules=_new_modules(opened, task, missing),
        notes=(note,) if note else (),
    )


def _load(opened: Opened, task: Task, arguments: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Return the model, and the names of the weights that its checkpoint lacks, or has for other classes."""
    with quiet():
        import transformers

    own = opened.trust_remote_code and own_code(opened.config)
    model_class = getattr(transformers, _AUTO_CLASSES[task]) if own else model_class_for(opened, task)
    if own:
        arguments["trust_remote_code"] = True
    transformers.utils.logging.disable_progress_bar()
    try:
        with isolated(own_code=bool(own)):
            model, report = model_class.from_pretrained(opened.folder, output_loading_info=True, **arguments)
    except ImportError as error:
        raise UnfitModel(
            model=opened.model,
            problem=f"loading it needs another library ({reason(error)})",
            advice="install it",
        ) from error
    except Exception as error:  # a model's code may raise anything
        raise UnfitModel(
            model=opened.model,
            problem=f"{model_class.__name__} cannot be loaded from {opened.folder} ({reason(error)})",
            advice="check that the folder is whole",
        ) from error
    unfit = sorted(name for name, *_ in report.get("mismatched_keys", ()))
    if broken := [name for name in unfit if name.startswith(f"{model.base_model_prefix}.")]:
        raise UnfitModel(
            model=opened.model,
            problem=f"{printable(broken[0], limit=60)} has another shape there than its config says",
            advice="check that config.json belongs to the weights",
        )
    return model, tuple(sorted({*report["missing_keys"], *unfit}))


def model_class_for(opened: Opened, task: Task) -> Any:
    """Return transformers' class for the task: the one that the checkpoint names, where it is such a one.

    Raises:
        UnfitModel: there is none; names the task that the checkpoint was made for.
        UnknownArchitecture: transformers does not know the model at all.

    """
    from transformers.models.auto import modeling_auto

    with quiet():
        choice = choose_class(opened.config)
    likely = opened.likely_task()
    if task is Task.CAUSAL_LM and likely is Task.MASKED_LM and not opened.config.get("is_decoder"):
        raise UnfitModel(
            model=opened.model,
            problem=f"{choice.model_class.__name__} reads in both directions and is no causal language model",
            advice=f"train it with --task {likely}, or classify with it",
        )
    found: list[Any] = []
    for name in _MAPPINGS[task]:
        fitting = getattr(modeling_auto, name).get(choice.config_class, None)
        found += fitting if isinstance(fitting, (tuple, list)) else [fitting] if fitting else []
    if choice.model_class in found:
        return choice.model_class
    if not found:
        raise UnfitModel(
            model=opened.model,
            problem=f"transformers has no class for the task {task} of model type "
            f"{printable(str(opened.config.get('model_type')), limit=40)}",
            advice=f"its checkpoint looks like --task {likely}",
        )
    return found[0]


def _quantizer(quantization: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _new_modules(opened: Opened, task: Task, missing: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that start from chance; only a classification may have some."""
    if missing and task not in _CLASSIFICATION:
        shown = ", ".join(printable(name, limit=60) for name in missing[:3])
        raise UnfitModel(
            model=opened.model,
            problem=f"its checkpoint lacks {len(missing)} of the weights ({shown}): they would be random",
            advice=f"give a checkpoint that was trained for the task {task}",
        )
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in missing))


def _stored_quantization(model: Any) -> str | None:
    """Return how the weights of the checkpoint are quantized, as far as they were loaded so."""
    method = getattr(model, "quantization_method", None)
    return None if method is None else str(getattr(method, "value", method))


def _parameters(model: nn.Module) -> int:
    """Return the elements of all weights, tied ones once; packed 4-bit weights hold two in a byte."""
    return sum(
        parameter.numel() * (2 if type(parameter).__name__ == "Params4bit" else 1)
        for parameter in model.parameters()
    )
