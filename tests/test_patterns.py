"""Repeated paths are collapsed into patterns that lose nothing."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.patterns import collapse, index_text

LETTERS = st.sampled_from(["model", "layers", "h", "w1", "07", "q_proj", "٣", ""])
NAMES = st.lists(st.one_of(LETTERS, st.integers(0, 12).map(str)), max_size=5).map(".".join)
PATHS = st.lists(NAMES, min_size=1, unique=True)
SMALL = st.integers(1, 4)


def read_indices(text: str) -> list[int]:
    """Read an index set back from how it is written, by the rules of the module's docstring alone."""
    if not text.startswith("{"):
        return [int(text)]
    indices: list[int] = []
    previous: list[range] = []
    for entry in text[1:-1].split(","):
        begin, ellipsis, end = entry.partition("…")
        runs = [_range(begin)]
        if ellipsis and not previous:
            runs = [range(int(begin), int(end) + 1)]
        elif ellipsis:
            step = runs[0].start - previous[-1].start
            while runs[-1] != _range(end):
                runs.append(range(runs[-1].start + step, runs[-1].stop + step))
                assert runs[-1].start <= _range(end).start
        previous += runs
        indices += [index for run in runs for index in run]
    return indices


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([5], "5"),
        ([0, 1], "{0,1}"),
        (range(3), "{0…2}"),
        (range(32), "{0…31}"),
        (range(3, 48, 4), "{3,7,11…47}"),
        ([4, 12, 20, 28], "{4,12,20,28}"),
        ([index for index in range(48) if index % 4 != 3], "{0-2,4-6,8-10…44-46}"),
        ([index for index in range(62) if index % 6 != 5], "{0-4,6-10,12-16…54-58,60-61}"),
        ([0, 3, 7, 11, 15, 19, 23], "{0,3,7,11…23}"),
        ([0, 1, 2, 9], "{0-2,9}"),
        ([0, 2], "{0,2}"),
    ],
)
def test_index_sets_read_the_way_people_write_them(indices: list[int], text: str) -> None:
    """Ranges, periodic layers of hybrid models and irregular sets each have a short form."""
    assert index_text(list(indices)) == text


@given(st.sets(st.integers(0, 60), min_size=1))
def test_the_text_of_an_index_set_means_that_set(indices: set[int]) -> None:
    """What is written can be read back without ambiguity, whatever the indices."""
    assert read_indices(index_text(sorted(indices))) == sorted(indices)


@given(SMALL, SMALL, SMALL, st.integers(1, 12), st.sets(st.integers(0, 60)))
def test_periodic_sets_with_exceptions_read_back(
    start: int, length: int, gap: int, repeats: int, extra: set[int]
) -> None:
    """Periodic ranges, the case that is abbreviated, stay exact when other indices join them."""
    periodic = {start + (length + gap) * turn + step for turn in range(repeats) for step in range(length)}
    indices = sorted(periodic | extra)
    assert read_indices(index_text(indices)) == indices


@given(PATHS)
def test_patterns_expand_to_exactly_the_paths(paths: list[str]) -> None:
    """Collapsing neither loses nor invents nor repeats a path."""
    patterns = collapse(paths)
    assert Counter(path for pattern in patterns for path in pattern) == Counter(paths)
    assert [len(pattern) for pattern in patterns] == [len(list(pattern)) for pattern in patterns]


@given(PATHS)
def test_a_pattern_splits_into_its_parents_and_its_last_segments(paths: list[str]) -> None:
    """What is shown above and beside each other in a narrow table still makes the whole paths."""
    for pattern in collapse(paths):
        above, last = pattern.split()
        dot = "." if any("." in path for path in pattern) else ""
        assert [f"{parent}{dot}{name}" for parent in above for name in last] == list(pattern)
        assert not any("." in name for name in last)


@given(st.sets(st.integers(0, 99), min_size=1), st.sets(st.integers(0, 99), min_size=1), st.randoms())
def test_a_product_of_indices_is_one_pattern(layers: set[int], experts: set[int], random: object) -> None:
    """Layers x experts collapse into a single row, in whatever order they come."""
    paths = [f"layers.{layer}.experts.{expert}.w1" for layer, expert in product(layers, experts)]
    random.shuffle(paths)  # type: ignore[attr-defined]
    assert len(collapse(paths)) == 1


def test_a_layer_with_fewer_experts_stands_apart() -> None:
    """An index set that is no product is split where it differs, not blurred."""
    experts = {0: 4, 1: 4, 2: 4, 3: 2, 4: 4}
    paths = [
        f"layers.{layer}.experts.{index}.w1" for layer, count in experts.items() for index in range(count)
    ]
    assert [str(pattern) for pattern in collapse(paths)] == [
        "layers.{0-2,4}.experts.{0…3}.w1",
        "layers.3.experts.{0,1}.w1",
    ]


def test_a_number_at_the_end_of_a_word_is_an_index() -> None:
    """Modules kept in a dictionary under expert_0, expert_1, … collapse, while a lone fc1 stays fc1."""
    paths = [f"layers.{layer}.experts.expert_{expert}.fc1" for layer in range(3) for expert in range(4)]
    assert [str(pattern) for pattern in collapse(paths)] == ["layers.{0…2}.experts.expert_{0…3}.fc1"]


def test_numbers_that_are_not_plain_indices_stay_literal() -> None:
    """A segment such as 007 would not come back from an integer, so it is never treated as one."""
    paths = ["a.007.b", "a.7.b", "a.12345678901234567890.b", "a.٣.b"]
    assert {str(pattern) for pattern in collapse(paths)} == set(paths)
    assert sorted(path for pattern in collapse(paths) for path in pattern) == sorted(paths)


def test_an_absurdly_nested_name_is_handled_in_one_piece() -> None:
    """A hostile name of thousands of numbered segments neither recurses deeply nor takes long."""
    path = ".".join(["0"] * 20_000)
    (pattern,) = collapse([path])
    assert list(pattern) == [path]
