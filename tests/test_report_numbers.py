"""Rounding happens once, where a person reads, and never lies about nothing or everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.report.numbers import exact, percent, short

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00K"),
        (9_999, "10.0K"),
        (149_500_000, "150M"),
        (124_439_808, "124M"),
        (999_499, "999K"),
        (999_600, "1.00M"),
        (8_030_261_248, "8.03B"),
        (1_026_000_000_000, "1.03T"),
        (5 * 10**15, "5000T"),
    ],
)
def test_short_counts_keep_three_digits(count: int, text: str) -> None:
    """Two models of 124M and 149M never look the same."""
    assert short(count) == text


@given(st.integers(0, 10**17))
def test_a_short_count_is_within_half_a_percent(count: int) -> None:
    """Whatever the size, what is read back is off by at most half a unit of the third digit."""
    text = short(count)
    unit = text[-1] if text[-1].isalpha() else ""
    assert float(text.removesuffix(unit)) * UNITS[unit] == pytest.approx(count, rel=0.00501)


@given(st.integers(1, 10**14), st.integers(0, 10**14), st.integers(0, 3))
def test_only_nothing_is_zero_and_only_everything_is_all(whole: int, part: int, digits: int) -> None:
    """A small part is never shown as 0%, nor a large one as 100%."""
    part %= whole + 1
    text = percent(part, whole, digits=digits)
    assert (text == "0%") == (part == 0)
    assert (float(text.strip("<>%")) == 100) == (part == whole)


def test_a_share_of_nothing_is_nothing() -> None:
    """A model without parameters divides by zero nowhere."""
    assert percent(0, 0) == "0%"


def test_exact_counts_are_grouped() -> None:
    """Every digit is shown, in groups of three."""
    assert exact(8030261248) == "8,030,261,248"
