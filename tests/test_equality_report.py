"""The report on how far stacks are from PEFT is whole, and within its bounds."""

from __future__ import annotations

import math
import re

from tests.equality.comparison import BOUNDS, Deviations
from tests.equality.models import FAMILIES, HABITS
from tests.equality.report import OPTIONS, REPORT, render


def test_a_row_tells_the_largest_deviation_of_each_kind() -> None:
    """Smaller ones do not replace it, and what is no number counts as infinitely far."""
    found = Deviations()
    for value in (2e-7, 1e-7):
        found.note("losses", value)
    found.note("norms", math.nan)
    text = "\n".join(render({"Families": {"llama": ("LlamaForCausalLM", found)}}))
    assert "| llama | LlamaForCausalLM | 2.0e-07 | inf | 0.0e+00 | 0.0e+00 |" in text


def test_the_report_in_the_repository_is_whole_and_within_bounds() -> None:
    """Every model and way to train has its row, and no figure exceeds what the tests allow."""
    rows = re.findall(
        r"^\| (.+?) \| \w+ \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", REPORT.read_text(), re.MULTILINE
    )
    assert {*FAMILIES, *HABITS, *OPTIONS} <= {name for name, *_ in rows}
    for name, *figures in rows:
        bounds = (BOUNDS.losses, BOUNDS.norms, BOUNDS.gradients, BOUNDS.matrices)
        assert all(float(found) <= bound for found, bound in zip(figures, bounds, strict=True)), name
