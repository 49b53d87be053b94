"""Limits are read exactly, and the largest rank under one is the largest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.budgeting import budget
from lora_probe.budgeting.limits import read_bytes, read_count
from lora_probe.budgeting.ranks import read_ranks, read_set_at_rank
from lora_probe.errors import BadQuantity, BadRank
from lora_probe.graph import Kind, ModuleGraph
from tests.handmade import make_graph, make_site


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("18000000", 18_000_000),
        ("18_000_000", 18_000_000),
        ("18M", 18_000_000),
        ("18 M", 18_000_000),
        ("18Mi", 18 * 2**20),
        ("0.5K", 500),
        ("1.5Gi", 3 * 2**29),
        (7, 7),
    ],
)
def test_counts_have_decimal_and_binary_units(text: int | str, count: int) -> None:
    """K, M, B, T are powers of 1000, with an i of 1024; nothing is rounded."""
    assert read_count(text, option="max_parameters") == count


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50MB", 50_000_000),
        ("50MiB", 50 * 2**20),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("2.5 GB", 2_500_000_000),
        ("12B", 12),
        (50_000_000, 50_000_000),
    ],
)
def test_sizes_have_decimal_and_binary_units(text: int | str, size: int) -> None:
    """A megabyte has 1000 kilobytes and a mebibyte 1024 kibibytes."""
    assert read_bytes(text, option="max_adapter_size") == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "5Q",
        "5m",
        "5mb",
        "5MB",
        "-5",
        "1e6",
        "0",
        "0.4",
        "1,000",
        "٣",
        "5 M M",
        "9" * 40,
        "nan",
        True,
        -1,
    ],
)
def test_what_is_no_count_is_refused(text: int | str) -> None:
    """Units are spelled in one way only, and a count is a whole number from 1."""
    with pytest.raises(BadQuantity, match="max_parameters"):
        read_count(text, option="max_parameters")


@pytest.mark.parametrize("text", ["50", "50mb", "50M", "50KB", "0B", "0.5B", "MB", "50 MBit", False, 0])
def test_what_is_no_size_is_refused(text: int | str) -> None:
    """A size in text has a unit, since 50 could be bytes as well as megabytes."""
    with pytest.raises(BadQuantity, match="max_adapter_size"):
        read_bytes(text, option="max_adapter_size")


def test_ranks_are_whole_numbers_each_once() -> None:
    """A rank may come alone or in any iterable; repeated ones count once."""
    assert read_ranks(8) == (8,)
    assert read_ranks([16, 8, 16]) == (16, 8)


@pytest.mark.parametrize("ranks", [0, -1, 2**20 + 1, 1.5, "8", True, [8, 0], [], [None]])
def test_what_is_no_rank_is_refused(ranks: object) -> None:
    """No adapter has a rank below 1, a fraction of one, or one beyond every matrix."""
    with pytest.raises(BadRank):
        read_ranks(ranks)  # type: ignore[arg-type]


def test_a_set_at_a_rank_is_split_at_the_last_mark() -> None:
    """The text before ``:r=`` may hold colons itself."""
    assert read_set_at_rank("vision:attention.q:r=8") == ("vision:attention.q", 8)


@pytest.mark.parametrize("text", ["qv", "qv:r=", ":r=8", "qv:r=x", "qv:r=-1", "qv:r=²"])
def test_a_set_without_a_rank_is_refused(text: str) -> None:
    """Both halves of ``SPEC:r=N`` must be there."""
    with pytest.raises(BadQuantity, match="names no set and rank"):
        read_set_at_rank(text)


@pytest.mark.parametrize("text", ["qv:r=0", "qv:r=99999999999999999999"])
def test_a_set_at_no_rank_is_refused(text: str) -> None:
    """The rank in ``SPEC:r=N`` is a rank like any other."""
    with pytest.raises(BadRank):
        read_set_at_rank(text)


def _graph() -> ModuleGraph:
    sites = [
        make_site(f"layers.{layer}.{name}", size, out, part=name, block=block)
        for layer in range(3)
        for name, block, size, out in (
            ("q", "attention", 64, 64),
            ("v", "attention", 64, 16),
            ("up", "mlp", 64, 256),
        )
    ]
    return make_graph(sites, input_embedding=None)


SETS = ("attention.q", "attention", "mlp", "all-linear")


@given(
    limit=st.integers(1, 60_000),
    ranks=st.none() | st.lists(st.integers(1, 64), min_size=1, max_size=5, unique=True),
    unit=st.sampled_from(["parameters", "bytes"]),
)
def test_the_largest_rank_under_a_limit_is_the_largest(
    limit: int, ranks: list[int] | None, unit: str
) -> None:
    """The rank that is found fits, the next candidate does not, and what is left over is exact."""
    name = "max_parameters" if unit == "parameters" else "max_adapter_size"
    solved = budget(_graph(), SETS, ranks, **{name: limit})  # type: ignore[arg-type]
    candidates = sorted(ranks or range(1, 65))
    every = budget(_graph(), SETS, candidates)
    column = "trainable_parameters" if unit == "parameters" else "adapter_bytes"
    for targets in SETS:
        costs = {row.rank: getattr(row, column) for row in every.rows if row.targets == targets}
        fitting = [rank for rank in candidates if costs[rank] <= limit]
        found = [(row.rank, row.left_over) for row in solved.rows if row.targets == targets]
        assert found == [(rank, limit - costs[rank]) for rank in fitting[-1:]]
        missing = [(each.rank, each.least) for each in solved.unfit if each.targets == targets]
        assert missing == ([] if fitting else [(candidates[0], costs[candidates[0]])])


def test_the_search_ends_at_full_rank() -> None:
    """However large the limit, no rank is found beyond the one at which every update is of full rank."""
    found = budget(_graph(), "attention", max_parameters="1T")
    assert [row.rank for row in found.rows] == [64]


def test_equal_parameters_never_exceed_those_of_the_other_set() -> None:
    """Against q at r=8, each set gets the largest rank that trains no more."""
    found = budget(_graph(), SETS, equal_to="attention.q:r=8")
    assert found.limit is not None
    assert found.limit.value == 3 * 8 * 128
    assert {row.targets: row.rank for row in found.rows} == {
        "attention.q": 8,
        "attention": 3 * 8 * 128 // (3 * (128 + 80)),
        "mlp": 3 * 8 * 128 // (3 * 320),
        "all-linear": 3 * 8 * 128 // (3 * (128 + 80 + 320)),
    }


def test_ranks_keep_to_the_groups_of_convolutions() -> None:
    """PEFT takes only multiples of a convolution's groups, so no other rank is found."""
    graph = make_graph([
        make_site("conv", 1 * 9, 64, kind=Kind.CONV, groups=32, shape=(64, 1, 3, 3), part="conv"),
    ])  # fmt: skip
    at_32 = 32 * 32 * 9 + 64 * 1
    found = budget(graph, "name:conv", max_parameters=at_32 * 3 - 1)
    assert [(row.rank, row.trainable_parameters) for row in found.rows] == [(32, at_32)]
