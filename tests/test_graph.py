"""The records: JSON round trip, refusal of documents that are none, DataFrame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe import ModuleGraph
from lora_probe.errors import GraphFormatError
from tests.strategies import GRAPHS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(GRAPHS)
def test_json_makes_the_round_trip(graph: ModuleGraph) -> None:
    """What was written is read back equal, whatever characters the names hold."""
    assert ModuleGraph.from_json(graph.to_json()) == graph
    assert ModuleGraph.from_json(graph.to_json(indent=2).encode()) == graph


@given(GRAPHS)
def test_json_says_what_is_uncovered(graph: ModuleGraph) -> None:
    """The document carries the sum that scripts want beside the list that it sums."""
    document = json.loads(graph.to_json())
    assert document["uncovered_parameters"] == sum(item["parameters"] for item in document["uncovered"])


@given(GRAPHS, st.data())
def test_a_damaged_document_is_refused(graph: ModuleGraph, data: st.DataObject) -> None:
    """A value of the wrong sort is a GraphFormatError or still a graph, never another exception."""
    document: Any = json.loads(graph.to_json())
    holder = data.draw(
        st.sampled_from([document, *document["sites"], *document["uncovered"], *document["notes"]])
    )
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    try:
        read = ModuleGraph.from_json(json.dumps(document))
    except GraphFormatError:
        return
    assert ModuleGraph.from_json(read.to_json()) == read


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no JSON"),
        ("[]", "expected an object, got list"),
        ("{}", "format None, expected 1"),
        ("[" * 100_000, "no JSON"),
        ('{"format": 1, "sites": [{"path": 3}], "uncovered": []}', r"sites\[0\].path has the wrong type int"),
        (
            '{"format": 1, "sites": [{"colour": 3}], "uncovered": []}',
            r"sites\[0\] has unknown field 'colour'",
        ),
        ('{"format": 1, "sites": [{"kind": "lorry"}]}', r"sites\[0\].kind: 'lorry' is not a valid Kind"),
        ('{"format": 1, "sites": [], "uncovered": [{"shape": ["a"]}]}', r"uncovered\[0\].shape"),
        ('{"format": 1, "sites": 5, "uncovered": []}', "'sites' must be a list"),
        ('{"format": 1, "sites": [], "uncovered": []}', "the document lacks the field 'model'"),
    ],
)
def test_a_refusal_says_where(text: str, problem: str) -> None:
    """The sentence leads to the bad value."""
    with pytest.raises(GraphFormatError, match=problem):
        ModuleGraph.from_json(text)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@given(GRAPHS)
def test_the_frame_has_a_row_for_every_site(graph: ModuleGraph) -> None:
    """Row by row, the DataFrame holds the site's fields and its role; half a surrogate pair as its escape."""
    frame = graph.to_frame()
    assert list(frame["parameter"]) == [_utf8(site.parameter) for site in graph]
    assert list(frame["role"]) == [_utf8(site.role) for site in graph]
    assert int(frame["parameters"].sum()) == sum(site.parameters for site in graph)
    assert str(frame["layer"].dtype) == "Int64"
