"""Long paths in narrow places: shortened or broken, and never ambiguous."""

from __future__ import annotations

from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lora_probe.patterns import collapse
from lora_probe.report.paths import DottedPath, abridged, broken, counted_abridged, shared_start
from lora_probe.report.table import GraphTable
from lora_probe.report.wording import TIMES
from lora_probe.summary import summarize
from tests.handmade import make_graph, make_site

HYBRID = [0, 2, 4, 7, 9, 11, 14, 16, 18, 21, 23, 25, 28, 30, 32]
"""Layers of one sort as in Nemotron-H: no rule says where they are."""


def printed(renderable: object, width: int) -> list[str]:
    """Return the lines that a console of `width` shows."""
    file = StringIO()
    Console(file=file, width=width).print(renderable)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_long_list_of_layers_is_told_by_its_number_and_bounds() -> None:
    """Fifteen irregular layers take a word; a short or regular list is written out."""
    (long,) = collapse(f"layers.{layer}.mixer" for layer in HYBRID)
    assert abridged(long) == "layers.{15 of 0…32}.mixer"
    assert counted_abridged(long) == f"layers.{{15 of 0…32}}.mixer {TIMES}15"
    (regular,) = collapse(f"layers.{layer}.attn" for layer in range(3, 48, 4))
    assert abridged(regular) == str(regular) == "layers.{3,7,11…47}.attn"
    (single,) = collapse(["lm_head"])
    assert counted_abridged(single) == "lm_head"


def test_how_the_layers_of_a_tower_begin_is_cut_at_a_dot() -> None:
    """The start is shared by everything that is repeated; what stands alone does not count."""
    patterns = collapse(
        ["lm_head", *(f"model.layers.{layer}.{name}" for layer in range(3) for name in ("mlp.up", "attn.q"))]
    )
    assert shared_start(patterns) == "model.layers."
    assert (
        shared_start(collapse([*(f"enc.l.{n}.q" for n in range(3)), *(f"encoder.{n}.q" for n in range(3))]))
        == ""
    )
    assert shared_start(collapse(["lm_head", "embed"])) == ""
    assert shared_start(collapse(f"{layer}.q" for layer in range(3))) == ""


@given(st.lists(st.text("abc_", min_size=1, max_size=9), min_size=1).map(".".join), st.integers(10, 30))
def test_a_broken_path_is_the_path(path: str, width: int) -> None:
    """Nothing is lost; lines fit and end at dots."""
    lines = broken(path, width)
    assert "".join(lines) == path
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.endswith(".") for line in lines[:-1])
    assert printed(DottedPath(path), width) == lines


def test_paths_start_under_their_tower_where_they_would_not_fit() -> None:
    """Between the whole table and the narrow one, a tower says once how its layers begin."""
    graph = make_graph(
        [
            make_site("model.language_model.embed_tokens", 100, 8, block="embedding", part="token"),
            *(
                make_site(f"model.language_model.layers.{n}.self_attn.q_proj.linear", 8, 8, part="q")
                for n in HYBRID
            ),
        ]
    )
    table = GraphTable(graph, summarize(graph, rank=8))
    whole = next(line for line in printed(table, 150) if "linear" in line)
    assert "model.language_model.layers.{0,2,4,7," in whole
    short = printed(table, 100)
    assert any(line.split() == ["text", "model.language_model.layers.…"] for line in short)
    assert any("  …{15 of 0…32}.self_attn.q_proj.linear " in line for line in short)
    assert any("  model.language_model.embed_tokens " in line for line in short)


def test_wrapped_layers_stay_together_on_a_narrow_terminal() -> None:
    """The layer inside a wrapper is named with it: one heading for all, not one for each."""
    graph = make_graph(
        [
            make_site(f"model.tower.layers.{n}.attn.{part}_proj.linear", 8, 8, block="attention", part=part)
            for n in range(3)
            for part in "qkv"
        ]
    )
    lines = printed(GraphTable(graph, summarize(graph, rank=8)), 70)
    assert sum("model.tower" in line for line in lines) == 1
    assert [line.split()[:2] for line in lines if ".linear" in line] == [
        ["q", "q_proj.linear"],
        ["k", "k_proj.linear"],
        ["v", "v_proj.linear"],
    ]


def test_a_tiny_terminal_does_without_shapes() -> None:
    """At 40 cells names and sizes stay whole, and the shapes go."""
    graph = make_graph([make_site(f"h.{n}.gate_up_proj", 4096, 14336) for n in range(3)])
    lines = printed(GraphTable(graph, summarize(graph, rank=8)), 40)
    assert any(line.split() == ["gate_up_proj", "176M", "442K"] for line in lines)
    assert any(line.split() == ["other", "weights", "0"] for line in lines)
    assert not any("→" in line for line in lines)
