"""Names from models and files are made safe before they are shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.text import printable


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    """No control, format, surrogate or separator character survives."""
    assert not {unicodedata.category(char) for char in printable(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("model.layers.0", "model.layers.0"),
        ("größe·重み", "größe·重み"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("one\ntwo", "one\\ntwo"),
        ("\ud800", "\\ud800"),
    ],
)
def test_plain_text_stays_and_the_rest_is_spelled_out(text: str, shown: str) -> None:
    """Letters of any language stay; what would act on a terminal is written as an escape."""
    assert printable(text) == shown


def test_a_long_name_loses_its_middle() -> None:
    """Head and tail of a long name stay readable."""
    assert printable("abcdefghij", limit=7) == "abc…hij"
    assert printable("abcdefg", limit=7) == "abcdefg"
