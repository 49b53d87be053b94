"""What a walk makes of each sort of layer, and that it counts every parameter once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_probe import Adaptable, Kind, ModuleGraph, scan

if TYPE_CHECKING:
    from lora_probe import Site


def only_site(module: nn.Module) -> Site:
    """Return the one site of `module` inside of a parent."""
    (site,) = scan(nn.ModuleDict({"layer": module}))
    return site


def facts(site: Site) -> tuple[object, ...]:
    """Return what the shape of a layer decides."""
    return site.kind, site.in_features, site.out_features, site.experts, site.groups, site.adaptable


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(3, 5), (Kind.LINEAR, 3, 5, 1, 1, Adaptable.MODULE)),
        (Conv1D(5, 3), (Kind.CONV1D, 3, 5, 1, 1, Adaptable.MODULE)),
        (nn.Embedding(7, 3), (Kind.EMBEDDING, 7, 3, 1, 1, Adaptable.MODULE)),
        (nn.EmbeddingBag(7, 3), (Kind.EMBEDDING, 7, 3, 1, 1, Adaptable.PARAMETER)),
        (nn.Conv1d(4, 6, 5), (Kind.CONV, 20, 6, 1, 1, Adaptable.MODULE)),
        (nn.Conv2d(4, 6, (3, 5), groups=2), (Kind.CONV, 30, 6, 1, 2, Adaptable.MODULE)),
        (nn.Conv3d(4, 6, 2), (Kind.CONV, 32, 6, 1, 1, Adaptable.MODULE)),
        (nn.ConvTranspose1d(4, 6, 5), (Kind.CONV, 4, 30, 1, 1, None)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (Kind.CONV, 4, 27, 1, 2, None)),
    ],
)
def test_each_layer_has_its_sides(module: nn.Module, expected: tuple[object, ...]) -> None:
    """A layer of torch is a site whose sides multiply to the elements of its weight, with its bias."""
    site = only_site(module)
    assert facts(site) == expected
    assert site.in_features * site.out_features == module.get_parameter("weight").numel()
    bias = getattr(module, "bias", None)
    assert site.bias_parameters == (0 if bias is None else bias.numel())
    assert site.parameters == sum(each.numel() for each in module.parameters())


def test_packed_attention_and_its_output() -> None:
    """Packed q, k and v are one site under the module's name, the output projection another."""
    graph = scan(nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2)}))
    packed, output = graph
    assert (packed.path, packed.parameter) == ("attention", "attention.in_proj_weight")
    assert facts(packed) == (Kind.PACKED_ATTENTION, 8, 24, 1, 1, Adaptable.MODULE)
    assert packed.bias_parameters == 24
    assert (output.path, output.kind) == ("attention.out_proj", Kind.LINEAR)
    assert graph.uncovered == ()


def test_separate_attention_weights_are_reached_as_parameters() -> None:
    """PEFT refuses attention whose key is wider by module, and takes its three matrices by parameter."""
    attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, add_bias_kv=True)
    graph = scan(nn.ModuleDict({"attention": attention}))
    q, k, v, _ = graph
    assert [(site.in_features, site.out_features) for site in (q, k, v)] == [(8, 8), (6, 8), (4, 8)]
    assert {site.adaptable for site in (q, k, v)} == {Adaptable.PARAMETER}
    assert {item.parameter for item in graph.uncovered} == {
        "attention.in_proj_bias",
        "attention.bias_k",
        "attention.bias_v",
    }


def test_recurrent_matrices_are_sites_that_nothing_adapts() -> None:
    """An LSTM's kernels read a flat list of weights, past any adapter, so its sites are not adaptable."""
    graph = scan(nn.ModuleDict({"lstm": nn.LSTM(3, 5, num_layers=2)}))
    assert [(site.in_features, site.out_features) for site in graph] == [(3, 20), (5, 20), (5, 20), (5, 20)]
    assert {site.adaptable for site in graph} == {None}
    assert {site.bias_parameters for site in graph} == {20}
    assert graph.uncovered == ()


def test_weight_normalised_layers_keep_their_direction() -> None:
    """Of a weight-normalised layer the direction is the weight, the magnitude uncovered, in both forms."""
    new = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 5))
    with pytest.warns(FutureWarning):
        old = nn.utils.weight_norm(nn.Linear(3, 5))
    graph = scan(nn.ModuleDict({"new": new, "old": old}))
    assert {site.parameter: (site.in_features, site.out_features) for site in graph} == {
        "new.parametrizations.weight.original1": (20, 6),
        "old.weight_v": (3, 5),
    }
    assert [item.parameter for item in graph.uncovered] == [
        "new.parametrizations.weight.original0",
        "old.weight_g",
    ]
    assert graph.total_parameters == 6 * 20 + 6 + 6 + 15 + 5 + 5


class Shrunk(nn.Module):
    """Makes a weight of fewer elements than it has."""

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        """Repeat one row."""
        return small.expand(5, 3)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Keep the first row."""
        return weight[:1]


def test_a_weight_made_of_less_is_uncovered() -> None:
    """What a parametrization computes from something smaller has no tensor to be counted as its weight."""
    layer = nn.Linear(3, 5, bias=False)
    nn.utils.parametrize.register_parametrization(layer, "weight", Shrunk(), unsafe=True)
    graph = scan(nn.ModuleDict({"layer": layer}))
    assert len(graph) == 0
    assert graph.total_parameters == 3


def test_tied_weights_are_counted_where_they_come_first() -> None:
    """A tied head is a site of its own with its own bias, and refers to the embedding that is counted."""
    embedding, head = nn.Embedding(7, 3), nn.Linear(3, 7)
    head.weight = embedding.weight
    graph = scan(nn.ModuleDict({"embedding": embedding, "head": head}))
    first, second = graph
    assert (first.tied_to, second.tied_to) == (None, "embedding.weight")
    assert (first.parameters, second.parameters) == (21, 7)
    assert second.weight_bytes == 0
    assert graph.total_parameters == 28
    assert [note.code for note in graph.notes] == ["tied-embeddings"]


def test_a_shared_module_is_listed_once() -> None:
    """A module under two names is one, under the first, as named_modules() and PEFT have it."""
    shared = nn.Linear(3, 3)
    graph = scan(nn.ModuleDict({"a": shared, "b": shared}))
    assert [site.path for site in graph] == ["a"]
    assert graph.total_parameters == 12


class Routed(nn.Module):
    """A router kept as a bare parameter, and parameters that are no projection."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(4, 6))
        self.position_embedding = nn.Parameter(torch.zeros(9, 6))
        self.decay = nn.Parameter(torch.zeros(6, 2))
        self.scale = nn.Parameter(torch.zeros(1, 6))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Use the gate as a projection, the rest as it is named."""
        states = (states + self.position_embedding) * self.scale
        return nn.functional.linear(states, self.gate.float()) - self.decay.sum()


def test_only_bare_parameters_that_multiply_are_sites() -> None:
    """Of bare matrices those are sites that the forward pass multiplies by; positions and scales are not."""
    graph = scan(nn.ModuleDict({"layer": Routed()}))
    (site,) = graph
    assert (site.parameter, site.kind) == ("layer.gate", Kind.MATRIX_PARAMETER)
    assert (site.in_features, site.out_features, site.adaptable) == (6, 4, Adaptable.PARAMETER)
    assert {item.parameter for item in graph.uncovered} == {
        "layer.position_embedding",
        "layer.decay",
        "layer.scale",
    }


def test_nothing_of_the_root_itself_is_adaptable() -> None:
    """PEFT puts an adapter in the place of a module, and the root has no place."""
    assert [site.adaptable for site in scan(Routed())] == [None]
    assert [site.adaptable for site in scan(nn.Linear(3, 5))] == [None]


def test_buffers_are_no_parameters() -> None:
    """Saved state such as running statistics is neither counted nor listed."""
    graph = scan(nn.ModuleDict({"norm": nn.BatchNorm1d(4)}))
    assert [item.parameter for item in graph.uncovered] == ["norm.weight", "norm.bias"]
    assert graph.total_parameters == 8


def test_an_empty_model_has_an_empty_graph() -> None:
    """A module without parameters has a total of nothing."""
    graph = scan(nn.ReLU())
    assert (graph.total_parameters, graph.sites, graph.uncovered) == (0, (), ())


def test_types_and_bytes_are_those_stored() -> None:
    """Each site says in which element type and bytes its weight is stored."""
    site = only_site(nn.Linear(3, 5, dtype=torch.bfloat16))
    assert (site.dtype, site.weight_bytes, site.shape) == ("bfloat16", 30, (5, 3))


def test_graphs_of_computed_sizes_survive_json() -> None:
    """Sizes that a module computes with tensors become plain integers."""
    layer = nn.Linear(torch.tensor(3), torch.tensor(5))  # type: ignore[arg-type]
    graph = scan(nn.ModuleDict({"layer": layer}))
    assert ModuleGraph.from_json(json.dumps(graph.to_dict())) == graph


def test_deep_trees_are_walked_without_recursion() -> None:
    """A tree far deeper than Python's stack is walked."""
    root = inner = nn.ModuleDict()
    for _ in range(3000):
        inner["x"] = nn.ModuleDict()
        inner = inner["x"]
    inner["layer"] = nn.Linear(2, 2)
    assert scan(root).total_parameters == 6


def test_embeddings_and_linear_layers_of_other_classes() -> None:
    """Classes that do as torch's do without being them are sites that PEFT reaches by their parameter."""
    from transformers.models.ibert.quant_modules import QuantEmbedding, QuantLinear

    linear = QuantLinear(3, 5, quant_mode=False)
    linear.weight = nn.Parameter(torch.zeros(5, 3))
    graph = scan(nn.ModuleDict({"table": QuantEmbedding(7, 3), "linear": linear}))
    assert {site.path: facts(site) for site in graph} == {
        "table": (Kind.EMBEDDING, 7, 3, 1, 1, Adaptable.PARAMETER),
        "linear": (Kind.LINEAR, 3, 5, 1, 1, Adaptable.PARAMETER),
    }
