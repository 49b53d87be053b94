"""Reports as files: Markdown that renders as it reads, CSV that adds up, HTML that is closed in itself."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt

from lora_probe.graph import Kind, ModuleGraph, Note, Uncovered
from lora_probe.report.charts import HEIGHT, WIDTH, block_shares, layer_charts
from lora_probe.report.csvfile import sites_csv
from lora_probe.report.html import graph_fragment, graph_page
from lora_probe.report.markdown import graph_markdown
from lora_probe.report.wording import TIMES
from lora_probe.summary import summarize
from lora_probe.text import printable
from tests.golden import check_golden
from tests.handmade import graphs, make_graph, make_site, tiny_graph

HOSTILE = "<script>alert(1)</script>|`x`*b*[l](u)\x1b[31m\n# h $m$ &lt;"
VOID = {"meta", "wbr", "br", "rect"}


def hostile_graph() -> ModuleGraph:
    """Return a graph in which every text that a model can choose is an attack on a renderer."""
    site = make_site(HOSTILE, 4, 4, tower=HOSTILE, block=HOSTILE, part=HOSTILE, layer=1, tied_to=None)
    other = make_site(
        f"{HOSTILE}.b", 4, 4, tower=HOSTILE, block=HOSTILE, layer=2, tied_to=f"{HOSTILE}.weight"
    )
    return make_graph(
        [site, other],
        [Uncovered(parameter=f"norm {HOSTILE}", shape=(2,), parameters=2)],
        model=HOSTILE,
        source=HOSTILE,
        architecture=HOSTILE,
        model_type=HOSTILE,
        dtype=HOSTILE,
        quantization=HOSTILE,
        versions={HOSTILE: HOSTILE},
        notes=(Note(code="x", message=HOSTILE),),
    )


class Page(HTMLParser):
    """Reads a document strictly: every tag must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag, and that it is open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last, and no other."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Remember what a reader sees."""
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)


def test_markdown_reads_as_it_was_looked_at() -> None:
    """The Markdown of a small model is the file that a person approved."""
    check_golden("report.md", graph_markdown(tiny_graph(), rank=8))


@settings(deadline=None)
@given(graphs())
def test_a_markdown_table_has_one_row_a_row(graph: ModuleGraph) -> None:
    """Names with pipes, backticks and tags neither split a cell nor end the table."""
    tokens = MarkdownIt("commonmark").enable("table").parse(graph_markdown(graph, rank=8))
    rows = summarize(graph, rank=8).rows
    cells = [token for token in tokens if token.type in {"td_open", "th_open"}]
    assert len(cells) == (6 * (1 + len(rows) + 3) if rows else 0)


def test_hostile_names_are_text_in_markdown() -> None:
    """What a model calls itself becomes neither a tag nor a link nor a heading."""
    tokens = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .parse(graph_markdown(hostile_graph(), rank=8))
    )
    inline = [child for token in tokens for child in token.children or []]
    assert not [child for child in inline if child.type in {"link_open", "em_open", "image"}]
    assert {child.content for child in inline if child.type == "html_inline"} <= {"<br>"}
    assert [token.type for token in tokens].count("heading_open") == 1


def test_csv_has_a_line_for_every_site_and_adds_up() -> None:
    """The columns of sizes are exact, so that a spreadsheet's sum is the model's."""
    graph = tiny_graph()
    rows = list(csv.DictReader(io.StringIO(sites_csv(graph, rank=8))))
    assert [row["path"] for row in rows] == [site.path for site in graph.sites]
    assert sum(int(row["parameters"]) for row in rows) + graph.uncovered_parameters == graph.total_parameters
    assert (
        sum(int(row["lora_parameters_r8"]) for row in rows) == summarize(graph, rank=8).total.lora_parameters
    )
    assert {row["role"] for row in rows} == {site.role for site in graph.sites}


def test_csv_cells_are_neither_formulas_nor_lines() -> None:
    """A spreadsheet shows a hostile name instead of calculating or breaking it."""
    graph = make_graph([make_site('=cmd|"/c calc"!A1', 4, 4), make_site("a\nb,c\x1b", 4, 4, kind=Kind.CONV)])
    text = sites_csv(graph, rank=8)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(text.splitlines()) == 3
    assert rows[0]["path"] == '\'=cmd|"/c calc"!A1'
    assert rows[1]["path"] == printable("a\nb,c\x1b")


@pytest.mark.parametrize("render", [graph_fragment, graph_page])
def test_html_escapes_every_name(render: object) -> None:
    """No text of a model becomes a tag, an attribute or a control character."""
    text = render(hostile_graph(), rank=8)  # type: ignore[operator]
    page = Page(text)
    assert not {"script", "b", "img"} & {tag for tag, _ in page.tags}
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert any("<script>alert(1)</script>" in data for data in page.texts)


def test_the_page_needs_nothing_but_itself() -> None:
    """No script, link, image or font is loaded, and the page forbids its browser to try."""
    page = Page(graph_page(tiny_graph(), rank=8))
    assert not {"script", "link", "img", "iframe", "a"} & {tag for tag, _ in page.tags}
    assert not any({"src", "href", "onclick"} & set(attributes) for _, attributes in page.tags)
    assert "url(" not in graph_page(tiny_graph(), rank=8)
    policies = [attributes.get("content") for tag, attributes in page.tags if tag == "meta"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policies


@settings(deadline=None)
@given(graphs())
def test_html_is_well_formed_for_any_graph(graph: ModuleGraph) -> None:
    """Every tag closes, and each row of the table has as many cells as its head."""
    cells = [tag for tag, _ in Page(graph_fragment(graph, rank=8)).tags if tag in {"th", "td"}]
    summary = summarize(graph, rank=8)
    lines = 1 + len(summary.towers) + len(summary.rows) + 3
    assert len(cells) == (8 * lines if summary.rows else 0)
    Page(graph_page(graph, rank=8))


def test_html_shows_rows_totals_and_notes() -> None:
    """The fragment holds what the terminal shows."""
    text = " ".join("".join(Page(graph_fragment(tiny_graph(), rank=8)).texts).split())
    for expected in (
        "experts.gate_up",
        "model.layers.{1…3}.mlp.experts.gate_up_proj",
        f"8 {TIMES} 64 → 96",
        "374,400",
    ):
        assert expected in text
    assert "lm_head shares its weight with model.embed_tokens." in text
    assert "LoRA at rank 8 on all 31 sites" in text


def test_a_notebook_shows_the_fragment() -> None:
    """What IPython asks a graph for is the summary, in a style that leaves the rest of the notebook alone."""
    html = tiny_graph()._repr_html_()
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style
    selectors = re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]*\{", "", style[1]))
    assert all(part.strip().startswith(".lora-probe") for each in selectors for part in each.split(","))


def test_html_says_when_nothing_fits() -> None:
    """A model without any site makes a page without an empty table."""
    page = Page(graph_page(make_graph([], [Uncovered(parameter="s", shape=(3,), parameters=3)]), rank=8))
    assert any("LoRA fits nothing here" in data for data in page.texts)
    Page(graph_page(make_graph([]), rank=8))


def test_block_shares_cover_the_whole_model() -> None:
    """The coloured bar is as long as the model is large: nothing is left over."""
    graph = tiny_graph()
    shares = block_shares(summarize(graph, rank=8))
    assert sum(share.parameters for share in shares) == graph.total_parameters
    assert sum(share.width for share in shares) == pytest.approx(100, abs=0.01)


def test_layer_charts_stack_within_their_frame() -> None:
    """The bars of a layer stand on each other, and the highest fills the chart."""
    (chart,) = layer_charts(tiny_graph())
    assert chart.tower == "text"
    assert min(bar.y for bar in chart.bars) == pytest.approx(0, abs=0.01)
    for place in {bar.x for bar in chart.bars}:
        stack = sorted((bar for bar in chart.bars if bar.x == place), key=lambda bar: -bar.y)
        floor = float(HEIGHT)
        for bar in stack:
            assert bar.y + bar.height == pytest.approx(floor, abs=0.02)
            floor = bar.y
    assert max(bar.x + bar.width for bar in chart.bars) <= WIDTH
