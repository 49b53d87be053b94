"""The module graph: what a model is made of, as plain records.

A :class:`ModuleGraph` is the answer of a scan and the input of everything after it. It holds no tensor and
imports neither torch nor transformers, compares with ``==``, and makes the round trip through JSON.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

from lora_probe.errors import GraphFormatError
from lora_probe.frames import frame_of
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd

__all__ = ["Adaptable", "Kind", "Module", "ModuleGraph", "Note", "Site", "Uncovered"]

FORMAT = 1
"""Version of the JSON layout; raised when an old reader would misread a new document."""


class Kind(str, Enum):
    """What sort of weight a site holds; decides how PEFT can adapt it and what that costs."""

    LINEAR = "linear"
    CONV1D = "conv1d"
    EMBEDDING = "embedding"
    EXPERT_PARAMETER = "expert_parameter"
    MATRIX_PARAMETER = "matrix_parameter"
    PACKED_ATTENTION = "packed_attention"
    CONV = "conv"

    __str__ = str.__str__


class Adaptable(str, Enum):
    """How PEFT reaches a site: by the name of its module, or by the name of its parameter."""

    MODULE = "module"
    PARAMETER = "parameter"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One place for a low-rank update of y = W x, with W seen as (out_features, in_features).

    `in_features * out_features * experts` is the number of elements of the weight, however it is stored:
    an embedding has in = vocabulary and out = width, a convolution in = channels a group x kernel size.
    """

    path: str
    """The module's path as ``named_modules()`` prints it; for bare parameters, the module that holds them."""
    kind: Kind
    in_features: int
    out_features: int
    experts: int = 1
    """The first dimension of a 3-D expert parameter, 1 elsewhere."""
    tower: str
    """Which sub-model: text, vision, audio, encoder, decoder, connector, head, …"""
    block: str
    """Which sort of layer within the tower: attention, mlp, experts, ssm, …"""
    part: str
    """Which projection of the block: q, k, v, o, gate, up, down, …; else the leaf name."""
    layer: int | None
    """Index of the repeated layer that holds the site, None outside of any."""
    parameter: str
    """Full name of the weight. Unique in a graph: two expert parameters may share one path."""
    tied_to: str | None = None
    """Full name of the weight that this one shares its storage with, where that one is counted."""
    parameters: int
    """Elements that this site adds to the model's total: weight (0 where tied) plus bias."""
    bias: str | None = None
    """Full name of the site's bias, also where it is another parameter by another name; None without one."""
    bias_parameters: int = 0
    """Elements of the site's bias that are counted in `parameters`."""
    groups: int = 1
    """Groups of a convolution: PEFT accepts only a rank that this divides."""
    shape: tuple[int, ...] = ()
    """Shape of the weight as it is stored, logical where packed; empty if unknown. Decides adapter shapes."""
    transposed: bool = False
    """Whether the module declares (`is_transposed`) that it stores 3-D weights as (experts, in, out).

    PEFT reads them as (experts, out, in) without that, whatever the forward pass does."""
    module_class: str = ""
    """Class name of the module at `path`; empty where only names and shapes are known."""
    dtype: str | None = None
    """Element type of the stored weight, as torch spells it without the prefix (``bfloat16``)."""
    weight_bytes: int | None = None
    """Bytes of the stored weight, with scales where it is packed; 0 where tied, None if unknown."""
    adaptable: Adaptable | None
    """How PEFT can adapt the site; None where it cannot."""

    @property
    def role(self) -> str:
        """The role as people write it: ``text:attention.q``."""
        return f"{self.tower}:{self.block}.{self.part}"

    @property
    def name(self) -> str:
        """Last segment of the name that PEFT matches: of the module, or of the bare parameter."""
        full = self.parameter if self.adaptable is Adaptable.PARAMETER else self.path
        return full.rpartition(".")[2]

    def lora_parameters(self, rank: int) -> int:
        """Return the elements of plain LoRA's A (rank x in) and B (out x rank), for each expert."""
        return rank * self.experts * (self.in_features + self.out_features)


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncovered:
    """A parameter that is no site: norms, scales, positions, states and the like."""

    parameter: str
    shape: tuple[int, ...]
    parameters: int
    """Elements that this parameter adds to the model's total; 0 where tied to another."""
    tied_to: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """One module of the tree, adaptable or not: what PEFT matches names against."""

    path: str
    class_name: str
    """Class name; empty where only names and shapes are known."""
    bypassed: tuple[str, ...] = ()
    """Names of children that its code never calls but reads the weights of: adapters there never run."""
    partly_bypassed: tuple[str, ...] = ()
    """Names of children that its code calls on one way and a fused kernel bypasses on another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something a reader must know about this scan."""

    code: str
    """Stable short name, such as ``tied-embeddings``."""
    message: str


@dataclass(frozen=True, kw_only=True, repr=False)
class ModuleGraph:
    """Every weight of one model, named and counted: sites + uncovered = the model's total, exactly."""

    model: str
    """What was asked for: hub id, path, or class name of a live module."""
    source: str
    """Where it was found: module, folder, file, cache, catalogue or hub; with detail after a colon."""
    architecture: str
    """The class that was built, or what the checkpoint's header says it is."""
    model_type: str
    total_parameters: int
    """Distinct elements of all parameters; tied weights once."""
    sites: tuple[Site, ...]
    uncovered: tuple[Uncovered, ...]
    modules: tuple[Module, ...] = ()
    input_embedding: str | None = None
    """Path of the module that ``get_input_embeddings()`` returns."""
    output_embedding: str | None = None
    """Path of the module that ``get_output_embeddings()`` returns; PEFT's all-linear leaves it out."""
    tied_modules: tuple[str, ...] | None = ()
    """Paths of the modules that the model's class declares to share the input embedding's weight.

    PEFT goes by this and not by what is shared. None where ties are declared without an input embedding: PEFT
    then fails."""
    tie_word_embeddings: bool = False
    """What the model's own config says, by which PEFT ties trainable token rows."""
    dtype: str | None = None
    quantization: str | None = None
    """Method of ``quantization_config`` (``fp8``, ``bitsandbytes``, …) or None."""
    revision: str | None = None
    """Commit of the hub repository where known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def uncovered_parameters(self) -> int:
        """Elements outside of every site."""
        return sum(item.parameters for item in self.uncovered)

    def __repr__(self) -> str:
        """Name the model in one line; its sites would drown whatever else a prompt or a log shows."""
        return (
            f"<ModuleGraph {printable(self.model)}: {self.architecture}, "
            f"{len(self.sites)} sites, {self.total_parameters:,} parameters>"
        )

    def __iter__(self) -> Iterator[Site]:
        """Iterate over the sites in the order of the model."""
        return iter(self.sites)

    def __len__(self) -> int:
        """Return the number of sites."""
        return len(self.sites)

    def to_dict(self) -> dict[str, Any]:
        """Return the graph as JSON types; sizes are exact: elements, or bytes where the name says so."""
        document: dict[str, Any] = {"format": FORMAT}
        for item in fields(self):
            value = getattr(self, item.name)
            document[item.name] = _encode_all(value) if isinstance(value, tuple) else value
        document["versions"] = dict(self.versions)
        document["uncovered_parameters"] = self.uncovered_parameters
        return document

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the graph as one JSON document in ASCII, the inverse of :meth:`from_json`."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModuleGraph:
        """Read what :meth:`to_json` wrote.

        Raises:
            GraphFormatError: `text` is not JSON, or not a graph of this format; says where.

        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GraphFormatError(problem=f"no JSON ({error})") from error
        if not isinstance(document, dict):
            raise GraphFormatError(problem=f"expected an object, got {type(document).__name__}")
        if document.get("format") != FORMAT:
            raise GraphFormatError(problem=f"format {document.get('format')!r}, expected {FORMAT}")
        document = {key: value for key, value in document.items() if key not in _DERIVED}
        for name, record in _RECORDS.items():
            if name in document:
                document[name] = _records(record, document[name], where=name)
        if not isinstance(document.get("versions", {}), dict):
            raise GraphFormatError(problem="'versions' must be an object")
        return _build(cls, document, where="the document")

    def to_frame(self) -> pd.DataFrame:
        """Return one row a site: the columns of :class:`Site` and the role; layers are nullable integers."""
        columns = [item.name for item in fields(Site)]
        rows = [[*(_plain(getattr(site, name)) for name in columns), site.role] for site in self.sites]
        frame = frame_of(rows, [*columns, "role"])
        frame.insert(columns.index("part") + 1, "role", frame.pop("role"))
        return frame.astype({"layer": "Int64", "weight_bytes": "Int64"})

    def _repr_html_(self) -> str:
        """Show the grouped summary where a notebook displays the graph."""
        # The one look from the core to an edge: IPython asks the object itself for its page.
        from lora_probe.report.html import graph_fragment

        return graph_fragment(self)


_RECORDS: Mapping[str, type] = {"sites": Site, "uncovered": Uncovered, "modules": Module, "notes": Note}
_DERIVED = frozenset({"format", "uncovered_parameters"})
_DECODE: Mapping[tuple[type, str], Callable[[Any], Any]] = {
    (Site, "kind"): Kind,
    (Site, "adaptable"): lambda value: None if value is None else Adaptable(value),
    (Site, "shape"): lambda value: tuple(index(size) for size in value),
    (Uncovered, "shape"): lambda value: tuple(index(size) for size in value),
    (Module, "bypassed"): lambda value: tuple(map(str, value)),
    (Module, "partly_bypassed"): lambda value: tuple(map(str, value)),
    (ModuleGraph, "tied_modules"): lambda value: None if value is None else tuple(map(str, value)),
}
_Record = TypeVar("_Record")


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError("expected a list of texts")
    return tuple(value)


def _plain(value: Any) -> Any:
    """Return `value` as a JSON type."""
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _encode_all(values: tuple[Any, ...]) -> list[Any]:
    return [each if isinstance(each, str) else _encode(each) for each in values]


def _encode(record: Any) -> dict[str, Any]:
    return {item.name: _plain(getattr(record, item.name)) for item in fields(record)}


def _records(record: type[_Record], values: Any, *, where: str) -> tuple[_Record, ...]:
    if not isinstance(values, list):
        raise GraphFormatError(problem=f"{where!r} must be a list")
    return tuple(_build(record, value, where=f"{where}[{index}]") for index, value in enumerate(values))


def _build(record: type[_Record], value: Any, *, where: str) -> _Record:
    """Make a record of a JSON object; types are checked against the record's own annotations."""
    if not isinstance(value, dict):
        raise GraphFormatError(problem=f"{where} must be an object")
    known = _TYPES[record]
    if unknown := sorted(set(value) - set(known)):
        raise GraphFormatError(problem=f"{where} has unknown field {unknown[0]!r}")
    decoded = {}
    for name, given in value.items():
        decode = _DECODE.get((record, name))
        try:
            decoded[name] = decode(given) if decode else given
        except (TypeError, ValueError) as error:
            raise GraphFormatError(problem=f"{where}.{name}: {error}") from error
        if not isinstance(decoded[name], known[name]) or (
            isinstance(given, bool) and bool not in known[name]
        ):
            raise GraphFormatError(problem=f"{where}.{name} has the wrong type {type(given).__name__}")
    if missing := [name for name in _REQUIRED[record] if name not in decoded]:
        raise GraphFormatError(problem=f"{where} lacks the field {missing[0]!r}")
    return record(**decoded)


def _types(record: Any) -> dict[str, tuple[type, ...]]:
    """Return the run-time types of each field, from its annotation."""
    named: dict[str, type] = {
        "str": str, "int": int, "bool": bool, "None": type(None), "Kind": Kind, "Adaptable": Adaptable,
    }  # fmt: skip
    return {
        item.name: tuple(
            named.get(word.strip(), dict if word.strip().startswith("Mapping") else tuple)
            for word in str(item.type).split(" | ")
        )
        for item in fields(record)
    }


_TYPES: Mapping[Any, dict[str, tuple[type, ...]]] = {
    record: _types(record) for record in (Site, Uncovered, Module, Note, ModuleGraph)
}
_REQUIRED: Mapping[Any, list[str]] = {
    record: [
        item.name for item in fields(record) if item.default is MISSING and item.default_factory is MISSING
    ]
    for record in _TYPES
}
