"""Comparisons: of models with themselves and with others, and of target sets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given

import lora_probe
from lora_probe import cli
from lora_probe.comparing import Change
from lora_probe.errors import ConflictingOptions, UnmatchedTarget
from lora_probe.graph import ModuleGraph, Uncovered
from tests.golden import check_golden
from tests.handmade import graphs, make_graph, make_site, tiny_graph

SMALL, LARGE, MOE = "Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-30B-A3B"


def layers(count: int, **facts: object) -> ModuleGraph:
    """Return a model of `count` layers with two linear layers each."""
    sites = [
        make_site(f"layers.{layer}.{part}_proj", 8, 16, part=part, **facts)
        for layer in range(count)
        for part in ("up", "down")
    ]
    return make_graph(sites, [Uncovered(parameter="norm", shape=(8,), parameters=8)])


@given(graphs())
def test_a_model_is_equal_to_itself(graph: ModuleGraph) -> None:
    """Nothing differs, and every weight is counted as the same."""
    difference = lora_probe.diff(graph, graph)
    assert difference.is_empty
    assert not difference.roles
    assert difference.same == len(graph.sites) + len(graph.uncovered)


@given(graphs(), graphs())
def test_swapping_the_sides_swaps_what_is_added_and_removed(one: ModuleGraph, other: ModuleGraph) -> None:
    """Each difference has its mirror image, and the names of one side are the same and the changed ones."""
    forth, back = lora_probe.diff(one, other), lora_probe.diff(other, one)
    count = dict.fromkeys(Change, 0)
    for row in forth.sites:
        count[row.change] += len(row.pattern)
    swapped = dict.fromkeys(Change, 0)
    for row in back.sites:
        swapped[row.change] += len(row.pattern)
    assert forth.same == back.same
    assert (count[Change.ADDED], count[Change.CHANGED]) == (swapped[Change.REMOVED], swapped[Change.CHANGED])
    weights = len(one.sites) + len(one.uncovered)
    assert forth.same + count[Change.REMOVED] + count[Change.CHANGED] == weights


def test_layers_that_only_one_model_has_make_one_row() -> None:
    """Four more layers are two rows of added weights, and their roles' counts differ."""
    difference = lora_probe.diff(layers(8), layers(12))
    assert [(row.change, str(row.pattern), len(row.pattern)) for row in difference.sites] == [
        (Change.ADDED, "layers.{8…11}.up_proj", 4),
        (Change.ADDED, "layers.{8…11}.down_proj", 4),
    ]
    assert [(row.role, row.first.sites, row.second.sites) for row in difference.roles] == [
        ("text:mlp.up", 8, 12), ("text:mlp.down", 8, 12),
    ]  # fmt: skip


def test_every_compared_fact_makes_a_difference() -> None:
    """Another size, role, kind or tie is a change of a weight that both models have."""
    graph = layers(1)
    for facts in (
        {"in_features": 9, "parameters": 9 * 16},
        {"block": "experts"},
        {"kind": lora_probe.Kind.CONV1D},
        {"tied_to": "x", "parameters": 0},
    ):
        other = replace(graph, sites=(replace(graph.sites[0], **facts), *graph.sites[1:]))
        (row,) = lora_probe.diff(graph, other).sites
        assert (row.change, str(row.pattern)) == (Change.CHANGED, "layers.0.up_proj")
    scale = replace(graph, uncovered=(Uncovered(parameter="norm", shape=(9,), parameters=9),))
    (row,) = lora_probe.diff(graph, scale).sites
    assert (str(row.pattern), row.second and row.second.sizes) == ("norm", (9,))


def test_a_doubled_rank_shows() -> None:
    """Old expert names and explicit parameters train the same weights, one of them at another rank."""
    difference = lora_probe.diff(
        lora_probe.scan(MOE), targets=["gate_proj,up_proj,down_proj", "experts"], rank=4
    )
    (row,) = difference.sites
    assert (row.change, len(row.pattern)) == (Change.CHANGED, 48)
    assert row.first is not None
    assert row.second is not None
    assert (row.first.rank, row.second.rank) == (8, 4)
    assert difference.same == 48


def test_two_spellings_of_one_set_are_equal() -> None:
    """all-linear and the seven names train the same in a dense model."""
    graph = lora_probe.scan(SMALL)
    assert lora_probe.diff(graph, targets=["all-linear", "attention+mlp"]).is_empty
    assert not lora_probe.diff(graph, targets=["attention", "attention+mlp"]).is_empty


def test_one_set_on_two_models() -> None:
    """A single set is taken on both sides, and the parameters are those that it trains."""
    one, other = lora_probe.scan(SMALL), lora_probe.scan(LARGE)
    difference = lora_probe.diff(one, other, targets="attention", rank=8)
    rows = [lora_probe.budget(graph, "attention", 8).rows[0] for graph in (one, other)]
    sides = (difference.first, difference.second)
    assert [side.parameters for side in sides] == [row.trainable_parameters for row in rows]


@pytest.mark.parametrize("targets", [(), ["attention"], ["q", "k", "v"]])
def test_one_model_needs_two_sets(targets: list[str]) -> None:
    """With one model there must be two target sets, no less and no more."""
    with pytest.raises(ConflictingOptions):
        lora_probe.diff(tiny_graph(), targets=targets)


def test_a_set_that_matches_nothing_is_refused() -> None:
    """A target set is resolved before it is compared."""
    with pytest.raises(UnmatchedTarget):
        lora_probe.diff(tiny_graph(), targets=["attention", "attention.qqq"])


def test_the_frame_has_a_row_a_name() -> None:
    """A notebook gets the names themselves, with integers that may be missing."""
    frame = lora_probe.diff(layers(2), layers(3)).to_frame()
    assert list(frame["name"]) == ["layers.2.up_proj", "layers.2.down_proj"]
    assert str(frame["parameters_first"].dtype) == "Int64"
    assert frame["parameters_first"].isna().all()
    assert list(frame["parameters_second"]) == [128, 128]


def test_the_command_shows_what_was_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Two models, two sets, and two equal sides read as the golden files have them."""
    for name, arguments in {
        "models": [SMALL, LARGE],
        "sets": [MOE, "-t", "q_proj,gate_proj,up_proj,down_proj", "-t", "attention.q+experts"],
        "equal": [SMALL, SMALL],
    }.items():
        assert cli.run(["diff", *arguments]) == 0
        check_golden(f"diff_{name}.txt", capsys.readouterr().out)


def test_the_command_prints_json_and_tells_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` is one document; with ``--exit-code`` a difference is 1, as of other diffs; misuse is 2."""
    assert cli.run(["diff", SMALL, "-t", "qv", "-t", "q", "--json", "--exit-code"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["equal"], document["same"]) == (False, 36)
    (row,) = document["sites"]
    assert (row["change"], len(row["names"])) == ("removed", 36)
    assert cli.run(["diff", SMALL, SMALL, "--exit-code"]) == 0
    assert cli.run(["diff", SMALL]) == 2
    assert "two models" in capsys.readouterr().err
