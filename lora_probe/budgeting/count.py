"""The tensors that PEFT will train and store, by name and shape, and how many elements they have.

Nothing is estimated: a prediction names every adapter, and each kind of layer allocates its factors as
peft/tuners/lora/layer.py (0.21) does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from lora_probe.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lora_probe.graph import Site
    from lora_probe.peft_rules import Adapter, Inventory, Prediction

__all__ = [
    "AdapterTensor",
    "Origin",
    "StoredNames",
    "adapter_elements",
    "adapter_tensors",
    "trainable_parameters",
    "trainable_tensors",
]

_PREFIX = "base_model.model."
"""What PEFT puts before the path of a module in the names of an adapter's tensors."""
_MATRIX, _STACK = 2, 3


class Origin(str, Enum):
    """Why a tensor is trained."""

    ADAPTER = "adapter"
    TOKENS = "tokens"
    COPY = "copy"
    BIAS = "bias"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterTensor:
    """One tensor that is trained and stored, under the name that it has in the adapter's file."""

    name: str
    shape: tuple[int, ...]
    origin: Origin
    site: Site | None = None
    """The site that the tensor adapts; None where it adapts a parameter that is no site, or none at all."""
    parameter: str | None = None
    """Full name of the model's own parameter that is trained, in place or in a copy; None for what is new."""
    tied: bool = False
    """Whether it shares the storage of another tensor, with which it is counted."""

    @property
    def elements(self) -> int:
        """Elements of the tensor itself, tied or not."""
        return prod(self.shape)


def trainable_parameters(prediction: Prediction, inventory: Inventory) -> int:
    """Return the elements that are trained; what shares storage is counted once."""
    return sum(tensor.elements for tensor in trainable_tensors(prediction, inventory) if not tensor.tied)


def trainable_tensors(prediction: Prediction, inventory: Inventory) -> list[AdapterTensor]:
    """Return everything that is trained: factors, magnitudes, token rows, full copies and biases."""
    return [*adapter_tensors(prediction), *_copies(prediction, inventory), *_biases(prediction, inventory)]


def adapter_elements(site: Site, rank: int, *, use_dora: bool = False, lora_bias: bool = False) -> int:
    """Return the elements of the adapter of one site at `rank`.

    Linear layers and embeddings: rank x (in + out); a convolution's A sees all its input channels and only
    its B is grouped; a stack of experts has the factors once for each; DoRA and `lora_bias` add out.
    """
    size_in, size_out = site.in_features * site.groups, site.out_features
    if site.kind is Kind.CONV:
        factors = rank * size_in + rank // site.groups * size_out
    else:
        factors = site.experts * rank * (size_in + size_out)
    return factors + size_out * (use_dora + lora_bias)


def adapter_tensors(prediction: Prediction) -> list[AdapterTensor]:
    """Return the low-rank factors, DoRA magnitudes and token rows of a prediction."""
    names = StoredNames(prediction)
    found: list[AdapterTensor] = []
    for adapter, base in zip(prediction.adapters, names.of_adapters(), strict=True):
        found.extend(_factors(adapter, base, prediction))
    for rows in prediction.tokens:
        if not rows.tied:
            name = f"{names.of_module(rows.path)}.token_adapter.trainable_tokens_delta"
            found.append(AdapterTensor(name=name, shape=(rows.rows, rows.width), origin=Origin.TOKENS))
    return found


def _factors(adapter: Adapter, base: str, prediction: Prediction) -> Iterator[AdapterTensor]:
    """Yield A, B and what options add, in the shapes in which PEFT makes them."""
    settings, rank, site = prediction.settings, adapter.rank, adapter.site
    tensor = partial(AdapterTensor, origin=Origin.ADAPTER, site=site)
    if adapter.parameter is not None:
        shape_a, shape_b = _parameter_factors(adapter)
    elif site is None:
        return
    elif site.kind is Kind.EMBEDDING:
        yield tensor(name=f"{base}.lora_embedding_A", shape=(rank, site.in_features))
        yield tensor(name=f"{base}.lora_embedding_B", shape=(site.out_features, rank))
        if settings.use_dora:
            yield tensor(name=f"{base}.lora_magnitude_vector", shape=(site.out_features,))
        return
    elif site.kind is Kind.CONV:
        kernel = site.shape[2:]
        shape_a = (rank, site.in_features * site.groups // prod(kernel), *kernel)
        shape_b = (site.out_features, rank // site.groups, *(1 for _ in kernel))
    else:
        shape_a, shape_b = (rank, site.in_features), (site.out_features, rank)
    yield tensor(name=f"{base}.lora_A.weight", shape=shape_a, tied=adapter.tied)
    yield tensor(name=f"{base}.lora_B.weight", shape=shape_b, tied=adapter.tied)
    if settings.lora_bias:
        yield tensor(name=f"{base}.lora_B.bias", shape=shape_b[:1])
    if settings.use_dora:
        magnitude = (1, shape_b[0], *shape_b[2:]) if len(shape_b) > _MATRIX else shape_b[:1]
        yield tensor(name=f"{base}.lora_magnitude_vector", shape=magnitude)


def _parameter_factors(adapter: Adapter) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of A and B of a wrapped parameter: experts lie side by side along the rank."""
    assert adapter.parameter is not None  # noqa: S101 - narrows the type
    shape = adapter.parameter.shape
    if len(shape) == _STACK:
        experts, first, second = shape
        size_in, size_out = (first, second) if adapter.parameter.transposed else (second, first)
    else:
        experts, (size_out, size_in) = 1, shape
    return (adapter.rank * experts, size_in), (size_out, adapter.rank * experts)


def _copies(prediction: Prediction, inventory: Inventory) -> Iterator[AdapterTensor]:
    """Yield the parameters of the modules that are trained in full."""
    names = StoredNames(prediction)
    for copy in prediction.saved:
        seen: set[str] = set()
        for name, parameter in inventory.parameters_under(copy.path).items():
            if copy.tied and name != "weight":
                continue  # a tied copy is a linear layer made of the embedding's weight and nothing else
            origin = parameter.tied_to or parameter.name
            tied = copy.tied or origin in seen
            seen.add(origin)
            yield AdapterTensor(
                name=f"{names.of_module(copy.path)}.{name}",
                shape=parameter.shape,
                origin=Origin.COPY,
                parameter=parameter.name,
                tied=tied,
            )


def _biases(prediction: Prediction, inventory: Inventory) -> Iterator[AdapterTensor]:
    """Yield the model's own biases that the `bias` option trains: all, or those of the adapted modules."""
    option = prediction.settings.bias
    if option == "none":
        return
    names = StoredNames(prediction)
    if option == "all":
        copied = tuple(f"{copy.path}." for copy in prediction.saved)
        left_alone = {name for name in inventory.parameters if copied and name.startswith(copied)}
        # A copied module's original is frozen, and with it a bias elsewhere that is tied to it.
        left_alone |= {tied for name in left_alone if (tied := inventory.parameters[name].tied_to)}
        trained = [name for name in inventory.biases if name not in left_alone]
    else:
        modules = dict.fromkeys(adapter.module for adapter in prediction.adapters)
        trained = [name for module in modules if (name := f"{module}.bias") in inventory.parameters]
    for name in trained:
        stored, shape = f"{names.inside(name.rpartition('.')[0])}.bias", inventory.parameters[name].shape
        yield AdapterTensor(name=stored, shape=shape, origin=Origin.BIAS, parameter=name)


class StoredNames:
    """Names of modules once PEFT has put a wrapper, with a ``base_layer``, around the adapted ones."""

    def __init__(self, prediction: Prediction) -> None:
        self._adapters = prediction.adapters
        self._inside: dict[str, str] = {}
        self._rows = {rows.path for rows in prediction.tokens}
        self._attentions = {
            adapter.key
            for adapter in prediction.adapters
            if adapter.parameter is None and adapter.key != adapter.module
        }
        self._wrappers = Counter(
            adapter.module for adapter in prediction.adapters if not self._is_beside(adapter)
        )

    def _is_beside(self, adapter: Adapter) -> bool:
        """Whether a packed attention's output was targeted besides the attention, which adapts it already.

        PEFT hangs the second adapter beside the attention's base layer, where nothing uses it.
        """
        return adapter.key == adapter.module and adapter.module.rpartition(".")[0] in self._attentions

    def beside(self) -> Mapping[str, str]:
        """Return the wrappers that hang beside a packed attention, by the path of the module in them."""
        return {
            adapter.module: name
            for adapter, name in zip(self._adapters, self.of_adapters(), strict=True)
            if self._is_beside(adapter)
        }

    def of_adapters(self) -> Sequence[str]:
        """Return the name of the wrapper that holds each adapter's factors.

        Parameters of one module nest: the first is the innermost.
        """
        left = Counter(self._wrappers)
        found = []
        for adapter in self._adapters:
            if self._is_beside(adapter):
                attention, _, leaf = adapter.module.rpartition(".")
                found.append(f"{self.of_module(attention)}.{leaf}")
                continue
            left[adapter.module] -= 1
            found.append(self.of_module(adapter.module) + ".base_layer" * left[adapter.module])
        return found

    def of_module(self, path: str) -> str:
        """Return the name of the outermost wrapper of the module at `path`, or of the module itself."""
        parent, _, leaf = path.rpartition(".")
        return f"{self.inside(parent)}.{leaf}" if parent else f"{_PREFIX}{leaf}"

    def inside(self, path: str) -> str:
        """Return the name of the module at `path` itself, below all its wrappers."""
        if path not in self._inside:
            rows = ".token_adapter.base_layer" if path in self._rows else ""
            self._inside[path] = self.of_module(path) + ".base_layer" * self._wrappers[path] + rows
        return self._inside[path]
