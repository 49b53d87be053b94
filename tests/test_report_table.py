"""The table on a terminal: readable at any width, complete, and safe to print."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lora_probe.graph import ModuleGraph, Uncovered
from lora_probe.report.table import GraphTable
from lora_probe.summary import summarize
from tests.golden import check_golden
from tests.handmade import graphs, make_graph, make_site, tiny_graph


def printed(graph: ModuleGraph, width: int, *, rank: int = 8, color: bool = False) -> str:
    """Return what a console of `width` shows, without blanks at line ends."""
    file = StringIO()
    console = Console(
        file=file, width=width, force_terminal=color, color_system="truecolor" if color else None
    )
    console.print(GraphTable(graph, summarize(graph, rank=rank)))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_the_table_reads_well_at_each_width(width: int) -> None:
    """The layouts for narrow, usual and wide terminals are the ones that were looked at."""
    check_golden(f"table_{width}.txt", printed(tiny_graph(), width))


@given(graphs(), st.integers(40, 200))
def test_no_line_is_wider_than_the_terminal(graph: ModuleGraph, width: int) -> None:
    """Nothing wraps on the terminal's own account, whatever the names and sizes."""
    assert all(cell_len(line) <= width for line in printed(graph, width).splitlines())


@given(graphs(), st.sampled_from([60, 80, 120, 400]))
def test_every_row_is_shown_in_every_layout(graph: ModuleGraph, width: int) -> None:
    """A narrow terminal loses columns, never rows."""
    text = printed(graph, width)
    rows = summarize(graph, rank=8).rows
    if rows:
        body = text.partition("──\n")[2].rpartition("\n─")[0]
        assert body.count("→") == len(rows)


@given(graphs())
def test_control_characters_of_names_never_reach_the_terminal(graph: ModuleGraph) -> None:
    """A name with an escape sequence is shown as text."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", printed(graph, 120))


def test_the_printed_rows_add_up_to_the_printed_totals() -> None:
    """Whoever sums the column of parameters by hand gets the totals below it."""
    lines = printed(tiny_graph(), 160).splitlines()
    sizes = {line.split()[0]: _integers(line) for line in lines if re.match(r"  \w+\.", line)}
    rows = sum(numbers[-2] for role, numbers in sizes.items() if role != "head.lm_head")  # tied: no size
    sites, loose, model = (_integers(line) for line in lines if re.match(r"sites|other|model", line))
    assert rows == sites[-2]
    assert sites[-2] + loose[0] == model[0] == tiny_graph().total_parameters
    assert sum(numbers[-1] for numbers in sizes.values()) == sites[-1]


def _integers(line: str) -> list[int]:
    without_shares = re.sub(r"[<>]?[\d.]+%", "", line)
    return [
        int(number.replace(",", ""))
        for number in re.findall(r"(?<![\w.{…])[\d,]+(?![\w.…}])", without_shares)
    ]


def test_colour_is_only_for_terminals() -> None:
    """A pipe gets plain text, a terminal some emphasis."""
    assert "\x1b[" in printed(tiny_graph(), 120, color=True)
    assert "\x1b[" not in printed(tiny_graph(), 120)


def test_a_model_that_lora_does_not_fit_is_told_so() -> None:
    """No table of dashes: one sentence says that there is nothing to adapt."""
    graph = make_graph([], [Uncovered(parameter="scale", shape=(7,), parameters=7)])
    assert "LoRA fits nothing here" in printed(graph, 80)
    frozen = make_graph([make_site("conv", 3, 8, adaptable=None)])
    assert "LoRA fits nothing here" in printed(frozen, 80)


def test_unnamed_roles_are_counted() -> None:
    """A reader learns how many sites have no standard role."""
    graph = make_graph([make_site(f"layers.{layer}.odd", 8, 8, block="other") for layer in range(3)])
    assert "3 sites of no standard role" in printed(graph, 100)


def test_an_endless_name_is_shortened() -> None:
    """A hostile name of a thousand segments takes a few lines, not a screen."""
    graph = make_graph([make_site(".".join(["deep"] * 1000), 8, 8)])
    assert len(printed(graph, 80).splitlines()) < 30
