"""Grouping a graph into rows keeps every site and every parameter."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lora_probe.graph import Kind, ModuleGraph
from lora_probe.summary import addresses, summarize
from tests.handmade import LAYERS, graphs, make_graph, make_site, tiny_graph


@given(graphs(), st.integers(1, 64))
def test_rows_and_uncovered_parameters_add_up_to_the_model(graph: ModuleGraph, rank: int) -> None:
    """Nothing is lost between the sites and the rows: sites, parameters and LoRA parameters all foot."""
    summary = summarize(graph, rank=rank)
    rows = [row.total for row in summary.rows]
    assert sum(row.sites for row in rows) == summary.total.sites == len(graph.sites)
    assert sum(row.parameters for row in rows) == summary.total.parameters
    assert summary.total.parameters + summary.uncovered_parameters == graph.total_parameters
    expected = sum(site.lora_parameters(rank) for site in graph.sites if site.adaptable)
    assert sum(row.lora_parameters for row in rows) == summary.total.lora_parameters == expected


@given(graphs())
def test_tower_and_block_totals_are_the_sums_of_their_rows(graph: ModuleGraph) -> None:
    """A subtotal is never more or less than the rows that are printed below it."""
    summary = summarize(graph, rank=8)
    for tower, total in summary.towers.items():
        assert total.parameters == sum(row.total.parameters for row in summary.rows if row.tower == tower)
        assert total.sites == sum(item.sites for key, item in summary.blocks.items() if key[0] == tower)
    assert set(summary.towers) == {site.tower for site in graph.sites}
    assert set(summary.blocks) == {(site.tower, site.block) for site in graph.sites}


@given(graphs())
def test_patterns_of_all_rows_expand_to_the_addresses_of_the_sites(graph: ModuleGraph) -> None:
    """Every site is named by exactly one row, and no row names anything else."""
    summary = summarize(graph, rank=8)
    named = Counter(path for row in summary.rows for path in row.pattern)
    assert named == Counter(addresses(graph.sites))
    assert set(named.values()) <= {1}


@given(graphs())
def test_a_row_holds_sites_of_one_shape(graph: ModuleGraph) -> None:
    """A reader may multiply in x out x experts by the sites of a row."""
    by_address = dict(zip(addresses(graph.sites), graph.sites, strict=True))
    for row in summarize(graph, rank=8).rows:
        shapes = {
            (site.in_features, site.out_features, site.experts) for site in map(by_address.get, row.pattern)
        }
        assert shapes == {(row.in_features, row.out_features, row.experts)}


def test_repeated_layers_become_one_row_each_role() -> None:
    """The hand-made mixture of experts reads as its roles, in the order of the model."""
    summary = summarize(tiny_graph(), rank=8)
    assert [(row.tower, row.role, str(row.pattern), row.total.sites) for row in summary.rows] == [
        ("text", "embedding.tokens", "model.embed_tokens", 1),
        ("text", "attention.q", "model.layers.{0…3}.self_attn.q_proj", LAYERS),
        ("text", "attention.k", "model.layers.{0…3}.self_attn.k_proj", LAYERS),
        ("text", "attention.v", "model.layers.{0…3}.self_attn.v_proj", LAYERS),
        ("text", "attention.o", "model.layers.{0…3}.self_attn.o_proj", LAYERS),
        ("text", "mlp.up", "model.layers.0.mlp.up_proj", 1),
        ("text", "mlp.down", "model.layers.0.mlp.down_proj", 1),
        ("text", "router.router", "model.layers.{1…3}.mlp.gate", LAYERS - 1),
        ("text", "experts.gate_up", "model.layers.{1…3}.mlp.experts.gate_up_proj", LAYERS - 1),
        ("text", "experts.down", "model.layers.{1…3}.mlp.experts.down_proj", LAYERS - 1),
        ("text", "head.lm_head", "lm_head", 1),
        ("vision", "conv.patch", "vision.patch", 1),
        ("vision", "attention.qkv", "vision.layers.0.attn.qkv", 1),
    ]


def test_different_shapes_in_one_role_are_different_rows() -> None:
    """Where layers differ in size a reader sees both sizes."""
    graph = make_graph([make_site(f"layers.{layer}.up", 64, 128 if layer < 2 else 256) for layer in range(4)])
    rows = summarize(graph, rank=8).rows
    assert [(str(row.pattern), row.out_features) for row in rows] == [
        ("layers.{0,1}.up", 128),
        ("layers.{2,3}.up", 256),
    ]


def test_tied_sites_stand_in_a_row_that_says_what_they_share() -> None:
    """A tied head adds no parameters to the total, and its row says why."""
    head = next(row for row in summarize(tiny_graph(), rank=8).rows if row.block == "head")
    assert head.total.parameters == 0
    assert [str(pattern) for pattern in head.tied_to] == ["model.embed_tokens.weight"]


def test_a_model_that_is_one_layer_goes_by_its_weight() -> None:
    """The root module has no path, and an empty name would tell a reader nothing."""
    (row,) = summarize(make_graph([make_site("", 8, 8, parameter="weight")]), rank=8).rows
    assert str(row.pattern) == "weight"


def test_weights_that_share_a_module_are_named_by_their_parameters() -> None:
    """Two weights of one module would have one path, so each goes by its own full name."""
    sites = [
        make_site("lstm", 8, 32, parameter="lstm.weight_ih", kind=Kind.LINEAR),
        make_site("lstm", 8, 32, parameter="lstm.weight_hh", kind=Kind.LINEAR),
    ]
    assert addresses(sites) == ["lstm.weight_ih", "lstm.weight_hh"]
