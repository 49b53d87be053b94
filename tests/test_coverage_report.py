"""reports/coverage.md says what a scan says today."""

from __future__ import annotations

import re

import pytest

from tests.census.report import REPORT, cover, line

SAMPLE = ("albert", "beit", "gemma2", "gpt2", "mamba", "swin", "whisper")
_SECONDS = re.compile(r"\| [0-9.]+ \|$")


@pytest.fixture(scope="module")
def report() -> str:
    """Return the text of the report."""
    return REPORT.read_text("utf-8")


def test_a_sample_is_current(report: str) -> None:
    """The rows of some model types, built again, are those of the report but for the time they took."""
    found = [_SECONDS.sub("|", line(coverage)) for coverage in cover(SAMPLE, reasons={})]
    listed = {_SECONDS.sub("|", row) for row in report.splitlines()}
    assert len(found) == len(SAMPLE)
    assert {*found} <= listed


def test_the_summary_adds_up(report: str) -> None:
    """The counts above the table are those of its rows."""
    rows = [
        row.split(" | ") for row in report.splitlines() if re.match(r"\| `[^`]+` \| \w+ \| [\d,]+ \|", row)
    ]
    sites = sum(int(count) for row in rows for count in re.findall(r" (\d+)", f" {row[3]}"))
    summary = re.search(
        r"- (\d+) types are registered, (\d+) build\.\n- ([\d,]+) sites, (\d+) of them", report
    )
    assert summary is not None
    registered, built, listed, others = (int(number.replace(",", "")) for number in summary.groups())
    assert built == len(rows)
    assert listed == sites
    assert others == sum(int(row[5]) for row in rows)
    assert registered == built + len(re.findall(r"^\| `[^`]+` \| [^|]+ \|$", report, re.MULTILINE))
