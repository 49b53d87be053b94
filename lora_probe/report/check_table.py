"""What a check found, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lora_probe.patterns import collapse
from lora_probe.report.numbers import exact, percent
from lora_probe.report.wording import shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from lora_probe.checks import Finding, Findings
    from lora_probe.checks.dry_run import DryRun

__all__ = ["DryRunTable", "FindingsList"]

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_PATTERNS = 3
"""Patterns of paths that are shown with a finding; --json has all."""
_WIDTH = 110
"""Columns that a file gets: sentences are no table and need no more."""


class FindingsList:
    """Findings as a rich renderable: what was checked, each finding with its fix, and the outcome."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the heading, the findings from the worst on, and how many there are."""
        findings = self._findings
        yield Text(shown(findings.model), style="bold")
        yield Text(f"targets: {shown(findings.targets)} · rank {findings.rank}")
        yield Text(_effect(findings))
        for finding in findings:
            yield ""
            yield from _lines(finding, console, options)
        yield ""
        yield Text(_outcome(findings), style="bold red" if findings.errors else "")

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        """Measure what suits sentences."""
        return Measurement(_WIDTH, _WIDTH)


class DryRunTable:
    """A dry run as a rich renderable: requested, matched and dropped side by side."""

    def __init__(self, run: DryRun) -> None:
        self._run = run

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        """Yield one row for each request, then what nobody asked for, and PEFT's own words."""
        run = self._run
        yield Text(f"PEFT {run.version} on the meta device", style="bold")
        if run.refusal is not None:
            yield Text(f"raises {printable(run.refusal)}", style="bold red")
        table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1))
        table.add_column("requested", overflow="fold")
        table.add_column("matched", justify="right", no_wrap=True)
        table.add_column("where", overflow="fold")
        for each in run.requested:
            style = "" if each.matched else "red"
            where = _where(each.matched) if each.matched else "dropped"
            table.add_row(Text(shown(each.text)), exact(len(each.matched)), Text(where), style=style)
        if run.unrequested:
            table.add_row(
                Text("not named by any request", style="dim"),
                exact(len(run.unrequested)),
                Text(_where(run.unrequested)),
            )
        yield table
        yield Text(f"{exact(run.trainable_parameters)} trainable parameters")
        for warning in run.warnings:
            yield Text(f"PEFT warns: {printable(' '.join(warning.split()))}", style="yellow")


def _effect(findings: Findings) -> str:
    if not findings.matched:
        return "PEFT makes no adapter."
    share = percent(findings.trainable_parameters, findings.total_parameters, digits=2)
    return (
        f"PEFT makes {exact(findings.matched)} adapters: {exact(findings.trainable_parameters)} trainable "
        f"parameters, {share} of the model."
    )


def _lines(finding: Finding, console: Console, options: ConsoleOptions) -> RenderResult:
    style = _STYLES[finding.severity.value]
    label = f"{finding.severity.value}: "
    yield Text.assemble((label, style), (finding.rule, "bold"))
    yield from _indented(f"{printable(finding.message)}.", console, options)
    if finding.paths:
        yield from _indented(_where(finding.paths), console, options, style="dim")
    if finding.fix:
        yield from _indented(f"fix: {printable(finding.fix)}", console, options)


def _indented(text: str, console: Console, options: ConsoleOptions, *, style: str = "") -> RenderResult:
    for line in Text(text, style=style).wrap(console, max(options.max_width - 2, 20)):
        yield Text("  ") + line


def _where(paths: Sequence[str]) -> str:
    """Return the paths as a few patterns."""
    patterns = collapse(paths)
    more = f", and {exact(len(patterns) - _PATTERNS)} more" if len(patterns) > _PATTERNS else ""
    return ", ".join(shown(str(pattern)) for pattern in patterns[:_PATTERNS]) + more


def _outcome(findings: Findings) -> str:
    counts = [
        f"{count} {word}{'s' if count > 1 and word != 'info' else ''}"
        for word in _STYLES
        if (count := sum(finding.severity.value == word for finding in findings))
    ]
    return f"{', '.join(counts)}." if counts else "Nothing to object to."
