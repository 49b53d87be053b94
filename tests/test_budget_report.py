"""What a person sees of a budget: every number, whole, safe and the same in each form."""

from __future__ import annotations

import csv
import json
import re
import shlex
from html.parser import HTMLParser
from io import StringIO
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest
from rich.console import Console

from lora_probe import budget, scan
from lora_probe.cli import lora_probe as command_line
from lora_probe.errors import UnknownChoice
from lora_probe.report.budget_charts import curve_chart, heat_strips
from lora_probe.report.budget_csv import budget_csv
from lora_probe.report.budget_html import budget_page
from lora_probe.report.budget_markdown import budget_markdown
from lora_probe.report.budget_plots import draw_layer_heat, draw_rank_curves, layer_heat, rank_curves
from lora_probe.report.budget_table import BudgetTable
from lora_probe.report.budget_wording import command, limit_text, verdict
from lora_probe.report.numbers import exact, file_size
from tests.budget_samples import FOLDER, SAMPLES, sample_page
from tests.handmade import make_graph, make_site, tiny_graph
from tests.tiny_models import build_tiny

if TYPE_CHECKING:
    from lora_probe import Budget

HOSTILE = "<script>alert(1)</script>|`x`\x1b[31m\u202e"


def _in_terminal(found: Budget, *, width: int = 100) -> str:
    console = Console(width=width, record=True, file=StringIO(), force_terminal=False)
    console.print(BudgetTable(found))
    return console.export_text()


@pytest.fixture(scope="module")
def found() -> Budget:
    """Return a budget with several sets, towers and ranks, split by role and layer."""
    return budget(tiny_graph(), ["text:attention", "all-linear", "experts"], [1, 4], by="role-layer")


@pytest.mark.parametrize("form", [_in_terminal, budget_markdown, budget_page])
def test_every_form_has_every_row_and_part(form: Any, found: Budget) -> None:
    """Terminal, Markdown and page show each row's exact parameters, and what PEFT is told."""
    text = form(found)
    for row in found.rows:
        assert exact(row.trainable_parameters) in text
        assert file_size(row.adapter_bytes) in text
    for part in found.parts:
        assert part.role is not None
        assert part.role in text
    assert "gate_up_proj" in text
    assert verdict(found)[:40] in " ".join(text.split())


@pytest.mark.parametrize("form", [_in_terminal, budget_markdown, budget_page])
def test_every_form_says_what_does_not_fit(form: Any) -> None:
    """Under a limit the largest rank and what it leaves are shown, and what the others would take."""
    limited = budget(tiny_graph(), ["vision:attention", "experts"], max_parameters=1000)
    text = " ".join(form(limited).split())
    assert [each.targets for each in limited.unfit] == ["experts"]
    assert "experts does not fit: r=1 already takes" in text.replace("\\", "")
    assert exact(limited.unfit[0].least) in text
    assert exact(limited.rows[0].left_over or 0) in text
    assert "1,000 parameters" in text


def test_a_narrow_terminal_loses_nothing(found: Budget) -> None:
    """On 60 columns the numbers are all there."""
    text = _in_terminal(found, width=60)
    assert all(exact(row.trainable_parameters) in text for row in found.rows)
    assert max(map(len, text.splitlines())) <= 60


def test_the_verdict_names_the_ends_of_the_range(found: Budget) -> None:
    """The first sentence says what the cheapest and the dearest choice cost."""
    sizes = sorted((row.trainable_parameters, row.targets, row.rank) for row in found.rows)
    text = verdict(found)
    assert f"on {sizes[0][1]} at r={sizes[0][2]}" in text
    assert f"on {sizes[-1][1]} at r={sizes[-1][2]}" in text


def test_limits_are_said_in_their_unit() -> None:
    """A limit in bytes reads as a size, one in parameters as a count, one of another set by its name."""
    graph = tiny_graph()
    assert limit_text(budget(graph, "experts", max_adapter_size="2MB")) == "2.00 MB (2,000,000 bytes)"
    assert limit_text(budget(graph, "experts", max_parameters="2K")) == "2,000 parameters"
    assert "as many as mlp:r=2" in limit_text(budget(graph, "experts", equal_to="mlp:r=2"))
    assert limit_text(budget(graph, "experts")) == ""


def test_nothing_that_fits_is_said_so() -> None:
    """Where no set fits, the verdict says that and no number stands in its place."""
    assert verdict(budget(tiny_graph(), "experts", max_parameters=1)).startswith("Nothing fits under 1 param")


def test_csv_gives_back_rows_and_parts(found: Budget) -> None:
    """A spreadsheet gets exact integers, and lists as JSON."""
    parts = list(csv.DictReader(StringIO(budget_csv(found))))
    assert sum(int(part["trainable_parameters"]) for part in parts) == sum(
        row.trainable_parameters for row in found.rows
    )
    rows = list(csv.DictReader(StringIO(budget_csv(budget(tiny_graph(), "experts", [1, 4])))))
    assert [int(row["rank"]) for row in rows] == [1, 4]
    assert json.loads(rows[0]["target_parameters"]) == ["down_proj", "gate_up_proj"]


class _Tags(HTMLParser):
    """Collects tags and attributes, and that each tag is closed."""

    VOID = frozenset({"meta", "br", "wbr", "rect", "line", "polyline", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def _tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser.seen


def test_a_page_needs_nothing_but_itself(found: Budget) -> None:
    """No script, no link, no request: the page can be mailed and opened anywhere."""
    page = budget_page(found)
    tags = _tags(page)
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "a", "form"}
    assert not [
        attributes for _, attributes in tags if {"src", "href", "onload", "onclick"} & attributes.keys()
    ]
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


def test_a_hostile_name_stays_text() -> None:
    """What a model calls its layers or itself can break neither page, table, terminal nor CSV."""
    site = make_site("layers.0.q", 8, 8, block="attention", part=HOSTILE, tower=HOSTILE)
    graph = make_graph([site, make_site(f"layers.0.{HOSTILE}", 8, 8)], model=HOSTILE, architecture=HOSTILE)
    found = budget(graph, "name:q", 2, by="role-layer")
    page, fragment = budget_page(found), found._repr_html_()
    for text in (page, fragment, budget_markdown(found), budget_csv(found), _in_terminal(found)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    for text in (page, fragment):
        assert "<script" not in text
        _tags(text)
    rows = [line for line in budget_markdown(found).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows[:3]}) == 1


def test_curves_pass_through_the_rows(found: Budget) -> None:
    """A curve has the parameters of its set at powers of two and at the ranks that were asked for."""
    info = rank_curves(budget(tiny_graph(), ["text:attention", "experts"], [3], max_parameters="1M"))
    assert info.limit == 1_000_000
    by_set = {curve.targets: curve for curve in info.curves}
    attention = by_set["text:attention"]
    assert attention.ranks == (1, 2, 3, 4, 8, 16, 32, 64, 128, 256)
    assert attention.parameters == tuple(rank * attention.parameters[0] for rank in attention.ranks)
    assert attention.marked == (3,)
    assert [curve.targets for curve in info.curves] == ["experts", "text:attention"]
    assert rank_curves(found).limit is None


def test_heat_holds_all_that_a_row_trains(found: Budget) -> None:
    """Roles by layers add up to the row, also what lies outside of layers."""
    row = found.rows[-1]
    info = layer_heat(found, row)
    assert info is not None
    assert sum(role.total for role in info.roles) == row.trainable_parameters
    assert info.layers == (1, 2, 3)
    assert [role.layers for role in info.roles] == [(4 * 8 * (64 + 96),) * 3, (4 * 8 * (48 + 64),) * 3]


def test_heat_is_of_the_row_with_most_weights(found: Budget) -> None:
    """By default the widest set is drawn, whose picture contains the others."""
    info = layer_heat(found)
    assert info is not None
    widest = max(row.sites for row in found.rows)
    assert [row.targets for row in found.rows if row.sites == widest] == [info.targets] * 2
    assert info.rank == 4


@pytest.mark.parametrize(("numbers", "expected"), [((1, 3, 6), (1, 2, 3, 4, 5, 6)), ((0, 10**8), (0, 10**8))])
def test_layers_that_a_set_leaves_alone_are_seen_between_the_others(
    numbers: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """A hybrid's picture has gaps where other layers lie; no model makes it endless by its numbering."""
    graph = make_graph([make_site(f"layers.{layer}.up", 8, 8) for layer in numbers])
    info = layer_heat(budget(graph, "mlp", 2, by="role-layer"))
    assert info is not None
    assert info.layers == expected
    (role,) = info.roles
    assert dict(zip(info.layers, role.layers, strict=True)) == {
        layer: 32 * (layer in numbers) for layer in expected
    }


def test_what_lies_outside_of_layers_is_told_beside_the_picture() -> None:
    """The sum that no cell holds is said where there is one, and only there."""
    graph = make_graph(
        [make_site("layers.0.up", 8, 8), make_site("layers.1.up", 8, 8), make_site("up", 8, 8)]
    )
    inside, both = budget(graph, ["mlp@0,1", "mlp"], 2, by="role-layer").rows
    pages = [budget_page(budget(graph, row.targets, 2, by="role-layer")) for row in (inside, both)]
    assert ["32 outside of layers" in page for page in pages] == [False, True]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_number_of_a_split_is_cut(width: int) -> None:
    """Where the ranks do not fit beside each other they follow below, and every role keeps its name."""
    ranks = [2**power for power in range(12)]
    found = budget(tiny_graph(), "attention", ranks, by="role")
    lines = _in_terminal(found, width=width).splitlines()
    assert not any("…" in line for line in lines if "{" not in line)
    assert all(len(line) <= width for line in lines)
    shown = re.findall(r"r=(\d+)", "".join(line for line in lines if "sites" in line))
    assert shown == [str(rank) for rank in ranks]


def test_a_name_of_a_model_is_no_markup() -> None:
    """Brackets in a role, as only a hostile model has them, are shown as they are."""
    graph = make_graph([make_site("layers.0.up", 8, 8, part="[/red]")])
    assert "mlp.[/red]" in _in_terminal(budget(graph, "mlp", 2, by="role"), width=80)


def test_heat_needs_roles_and_layers() -> None:
    """A budget that was not split cannot be drawn by layer, and says so."""
    with pytest.raises(UnknownChoice, match="role-layer"):
        layer_heat(budget(tiny_graph(), "experts"))


def test_plots_draw_onto_the_axes_that_they_get(found: Budget) -> None:
    """A plot returns its axes, with a line and dots for each set, and a row of cells for each role."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2)
    curves, heat = rank_curves(found), layer_heat(found)
    assert heat is not None
    assert draw_rank_curves(curves, left) is left
    assert len(left.lines) == 2 * len(curves.curves)
    assert draw_layer_heat(heat, right) is right
    assert right.images[0].get_array().shape == (len(heat.roles), len(heat.layers))
    figure.canvas.draw()
    plt.close(figure)


def test_charts_stay_in_their_place(found: Budget) -> None:
    """Everything on the page's drawings lies between 0 and 100 percent, and equal layers share a cell."""
    chart = curve_chart(rank_curves(found))
    assert chart is not None
    places = [tick.place for tick in (*chart.x_ticks, *chart.y_ticks)]
    places += [place for dot in chart.dots for place in (dot.x, dot.y)]
    places += [float(each) for line in chart.lines for each in re.split("[ ,]", line.points)]
    assert 0 <= min(places) <= max(places) <= 100
    assert [tick.label for tick in chart.x_ticks] == ["1", "2", "4", "8", "16", "32", "64", "128", "256"]
    heat = layer_heat(found, found.rows[-1])
    assert heat is not None
    strips = heat_strips(heat)
    assert [[cell.width for cell in row.cells] for row in strips.rows] == [[3], [3]]
    assert [row.role for row in strips.rows] == ["experts.gate_up", "experts.down"]
    assert strips.rows[0].cells[0].opacity == 1


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((["attention.q", "all-linear-mlp"], [2, 8]), {}),
        ((["re:.*\\.(q|v)_proj"],), {"max_parameters": "5K"}),
        ((["attention"],), {"max_adapter_size": "20kB", "dtype": "bfloat16"}),
        ((["attention", "mlp"],), {"equal_to": "attention:r=2", "by": "role"}),
        ((["attention.q"], 4), {"use_rslora": True, "bias": "all", "lora_bias": True}),
        ((["attention.q"], 4), {"use_dora": True, "rank_pattern": {"layers.0.self_attn.q_proj": 2}}),
        ((["attention.q"], 4), {"modules_to_save": ("lm_head", "input_layernorm"), "task_type": "CAUSAL_LM"}),
        ((["attention.q"], 4), {"trainable_token_indices": (1, 2, 7), "ensure_weight_tying": True}),
        ((["attention.q"], 4), {"trainable_token_indices": {"embed_tokens": (1,), "lm_head": (2, 3)}}),
    ],
)
def test_the_command_makes_the_same_budget(
    arguments: Any, options: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line under a report, run as it stands, gives the same rows."""
    model = build_tiny("phi")
    model.config.architectures = ["PhiForCausalLM"]
    model.config.save_pretrained(tmp_path)
    found = budget(scan(str(tmp_path)), *arguments, **options)
    words = shlex.split(command(found))
    assert words[:2] == ["lora-probe", "budget"]
    command_line.main([*words[1:], "--json"], standalone_mode=False)
    again = json.loads(capsys.readouterr().out)
    assert again["rows"] == found.to_dict()["rows"]
    assert again["options"] == found.to_dict()["options"]


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_pages_are_current(name: str) -> None:
    """The pages in reports/budgets say what they would say today, whatever versions and style are."""
    kept = (FOLDER / name).read_text(encoding="utf-8")
    assert len(kept) < 100_000
    changing = re.compile(r"<(style|footer)>.*?</\1>", re.DOTALL)
    made, kept = (changing.sub("", page) for page in (sample_page(name), kept))
    assert made == kept, "run `python -m tests.budget_samples`"
    _tags(kept)
