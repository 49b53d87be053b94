"""Plots are computed first and drawn second, on axes that the caller owns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from matplotlib.figure import Figure

from lora_probe.report.plots import (
    LayerParameters,
    RoleShares,
    draw_layers,
    draw_roles,
    layer_parameters,
    role_shares,
)
from tests.handmade import graphs, make_graph, make_site, tiny_graph

if TYPE_CHECKING:
    from lora_probe.graph import ModuleGraph


def test_role_shares_are_ordered_and_exact() -> None:
    """Roles come largest first; towers are named because there are two."""
    info = role_shares(tiny_graph())
    assert info.roles[:3] == ("text:experts.gate_up", "text:experts.down", "text:embedding.tokens")
    assert info.blocks[:3] == ("experts", "experts", "embedding")
    assert info.parameters[:3] == (147_456, 73_728, 64_000)


@given(graphs())
def test_role_shares_add_up_to_all_sites(graph: ModuleGraph) -> None:
    """Each site belongs to one bar."""
    info = role_shares(graph)
    assert sum(info.parameters) + graph.uncovered_parameters == info.total_parameters
    assert list(info.parameters) == sorted(info.parameters, reverse=True)


def test_layer_parameters_are_counted_by_block() -> None:
    """The dense first layer differs from the expert layers, and what stands outside of layers is left out."""
    experts = 147_456 // 3 + 73_728 // 3
    assert layer_parameters(tiny_graph()) == LayerParameters(
        tower="text",
        layers=(0, 1, 2, 3),
        blocks={
            "attention": (10_240,) * 4,
            "mlp": (24_576, 0, 0, 0),
            "router": (0, 512, 512, 512),
            "experts": (0, experts, experts, experts),
        },
    )


def test_another_tower_can_be_asked_for() -> None:
    """The largest tower is only the default."""
    assert layer_parameters(tiny_graph(), tower="vision").blocks == {"attention": (3_072,)}


def test_drawing_uses_the_axes_it_is_given() -> None:
    """Both drawings return their axes, with a bar for every role and every block of every layer."""
    left, right = Figure(layout="constrained").subplots(1, 2)
    roles, layers = role_shares(tiny_graph()), layer_parameters(tiny_graph())
    assert draw_roles(roles, left) is left
    assert [label.get_text() for label in left.get_yticklabels()] == list(roles.roles)
    assert [bar.get_width() for bar in left.patches] == list(roles.parameters)
    assert draw_layers(layers, right) is right
    assert sum(bar.get_height() for bar in right.patches) == sum(map(sum, layers.blocks.values()))


def test_many_roles_share_a_last_bar() -> None:
    """A plot of a hundred roles stays readable, and still adds up."""
    graph = make_graph([make_site(f"m.x{index}y", 2, index + 1) for index in range(30)])
    axes = draw_roles(role_shares(graph), Figure().subplots(), most=10)
    assert len(axes.patches) == 11
    assert sum(bar.get_width() for bar in axes.patches) == graph.total_parameters
    assert axes.get_yticklabels()[-1].get_text() == "the other 20"


@settings(deadline=None, max_examples=20)
@given(graphs())
def test_any_graph_can_be_drawn(graph: ModuleGraph) -> None:
    """No sites, no layers, no parameters: every plot is still one."""
    figure = Figure()
    left, right = figure.subplots(1, 2)
    draw_roles(role_shares(graph), left)
    draw_layers(layer_parameters(graph), right)
    figure.draw_without_rendering()


def test_an_empty_model_has_empty_infos() -> None:
    """Nothing to draw is described as nothing."""
    graph = make_graph([])
    assert role_shares(graph) == RoleShares(roles=(), blocks=(), parameters=(), total_parameters=0)
    assert layer_parameters(graph) == LayerParameters(tower="", layers=(), blocks={})
