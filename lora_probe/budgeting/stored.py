"""The tensors of the file that PEFT's `save_pretrained` writes: what is trained, and what it adds unasked.

After `get_peft_model_state_dict` (peft/utils/save_and_load.py, 0.21) with its default settings, for a model
whose vocabulary was not resized. Buffers of copied modules are not known to a graph and not listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from lora_probe.budgeting.count import Origin, StoredNames
from lora_probe.budgeting.file_size import DTYPES
from lora_probe.graph import Kind
from lora_probe.peft_rules.inventory import Names
from lora_probe.peft_rules.matching import condensed, matched_paths
from lora_probe.peft_rules.tables import EMBEDDING_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lora_probe.budgeting.count import AdapterTensor
    from lora_probe.graph import ModuleGraph
    from lora_probe.peft_rules import Inventory, LoraSettings, Prediction

__all__ = ["StoredTensor", "stored_tensors"]

_USUAL_DTYPE = "float32"
"""What torch makes where a model does not say."""
_SAVED_WHOLE = frozenset({Kind.LINEAR, Kind.EMBEDDING})


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor of an adapter's file."""

    name: str
    dtype: str
    """Element type as torch spells it without the prefix: ``float32``."""
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the tensor's data."""
        return prod(self.shape) * DTYPES[self.dtype][1]


def stored_tensors(
    trained: Iterable[AdapterTensor], prediction: Prediction, inventory: Inventory, *, dtype: str
) -> list[StoredTensor]:
    """Return the tensors of the adapter's file, in no particular order; `trained` are those of `prediction`.

    What PEFT adds to the model is stored as `dtype`; what it takes from the model keeps the element type that
    it has there. Tied tensors are stored twice.
    """
    base_dtypes = _base_dtypes(inventory.graph)
    usual = next(iter(base_dtypes.values()), _known(inventory.graph.dtype))
    found = {
        each.name: StoredTensor(
            name=each.name,
            dtype=base_dtypes.get(each.parameter, usual) if each.parameter else dtype,
            shape=each.shape,
        )
        for each in trained
        if each.origin is not Origin.BIAS  # told below, with those that are stored without being trained
    }
    names = StoredNames(prediction)
    for name, parameter in (
        *_biases(prediction, inventory, names),
        *_whole_embeddings(prediction, inventory, names),
        *_beside_attention(inventory, names),
    ):
        shape = inventory.parameters[parameter].shape
        found[name] = StoredTensor(name=name, dtype=base_dtypes.get(parameter, usual), shape=shape)
    return list(found.values())


def _base_dtypes(graph: ModuleGraph) -> dict[str, str]:
    """Return the element type of each site's weight and bias, by full name."""
    found = {}
    for site in graph.sites:
        if site.dtype in DTYPES:
            found[site.parameter] = site.dtype
            found[f"{site.path}.bias"] = site.dtype
    return found


def _known(dtype: str | None) -> str:
    return dtype if dtype in DTYPES else _USUAL_DTYPE


def _biases(prediction: Prediction, inventory: Inventory, names: StoredNames) -> Iterator[tuple[str, str]]:
    """Yield each bias that the `bias` option stores: its name in the file, and the model's own for it.

    With ``all`` the file holds whatever is called ``bias``, so that one in a copied module is there three
    times: as it was, in the copy that the option finds, and in the copy that is stored anyway.
    """
    option = prediction.settings.bias
    if option == "none":
        return
    # PEFT takes the wrapper of an embedding's rows for one of LoRA's.
    adapted = {adapter.module for adapter in prediction.adapters} | {each.path for each in prediction.tokens}
    copies = [copy.path for copy in prediction.saved]
    for parameter in inventory.parameters:
        path, _, leaf = parameter.rpartition(".")
        if leaf != "bias":
            continue
        copied = next((copy for copy in copies if f"{path}.".startswith(f"{copy}.")), None)
        if copied is not None:
            if option == "all":
                wrapper, rest = names.of_module(copied), parameter.removeprefix(f"{copied}.")
                # PEFT takes the adapter's name out where it is the last but one segment, and only there.
                copy = "modules_to_save" if rest == "bias" else "modules_to_save.default"
                yield f"{wrapper}.original_module.{rest}", parameter
                yield f"{wrapper}.{copy}.{rest}", parameter
        elif option == "all" or path in adapted:
            yield f"{names.inside(path)}.bias", parameter


def _whole_embeddings(
    prediction: Prediction, inventory: Inventory, names: StoredNames
) -> Iterator[tuple[str, str]]:
    """Yield the parameters of adapted embeddings that PEFT stores in full beside their adapters.

    It does so where a target is spelled `embed_tokens` or `lm_head`, or a pattern matches such a module,
    unless rows of an embedding are trained (`save_embedding_layers="auto"`).
    """
    adapted = {adapter.module for adapter in prediction.adapters}
    graph = inventory.graph
    embeddings = [
        path for path in (graph.input_embedding, graph.output_embedding) if path and path in adapted
    ]
    if (
        not embeddings
        or prediction.settings.trainable_token_indices is not None
        or not _spells_embedding(prediction.settings, inventory)
    ):
        return
    for path in embeddings:
        site = inventory.by_module.get(path)
        if site and site.kind in _SAVED_WHOLE:
            for name, parameter in inventory.parameters_under(path).items():
                yield f"{names.inside(path)}.{name}", parameter.name


def _beside_attention(inventory: Inventory, names: StoredNames) -> Iterator[tuple[str, str]]:
    """Yield the parameters of an attention's output that was targeted besides the attention.

    Its second adapter, with all that it wraps, is no part of the attention's base layer and so is stored.
    """
    for path, wrapper in names.beside().items():
        for name, parameter in inventory.parameters_under(path).items():
            yield f"{wrapper}.base_layer.{name}", parameter.name


def _spells_embedding(settings: LoraSettings, inventory: Inventory) -> bool:
    target = settings.target_modules
    if isinstance(target, str):
        embeddings = (path for path in inventory.paths if path.rpartition(".")[2] in EMBEDDING_NAMES)
        return bool(matched_paths(settings, Names(embeddings)))
    return not condensed(target or (), inventory.paths).isdisjoint(EMBEDDING_NAMES)
