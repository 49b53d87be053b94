"""Writes reports/coverage.md, what a scan tells of every model type: ``python -m tests.census.report``."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from lora_probe import __version__, scan
from tests.census.build import Unbuildable, build_type, model_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lora_probe import ModuleGraph

__all__ = ["REPORT", "Coverage", "cover", "line", "write"]

REPORT = Path(__file__).parents[2] / "reports" / "coverage.md"
_COLUMNS = ("model type", "class", "parameters", "sites by block", "uncovered", "other", "seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What the scan of one model type's default model tells; sizes in elements."""

    model_type: str
    architecture: str
    parameters: int
    blocks: tuple[tuple[str, int], ...]
    """Sites by block, the most frequent first."""
    uncovered: int
    seconds: float
    """Of building on the meta device and scanning."""

    @property
    def others(self) -> int:
        """Sites for which no rule has a word."""
        return dict(self.blocks).get("other", 0)


def cover(names: Iterable[str], *, reasons: dict[str, str]) -> Iterator[Coverage]:
    """Yield the coverage of each type of `names` that builds; put into `reasons` why the others do not."""
    for model_type in names:
        begin = perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # default configs warn about themselves
                graph = scan(build_type(model_type))
        except Unbuildable as reason:
            reasons[model_type] = str(reason)
        else:
            yield _coverage(model_type, graph, perf_counter() - begin)


def line(coverage: Coverage) -> str:
    """Return one row of the report's table."""
    blocks = " ".join(f"{block} {count}" for block, count in coverage.blocks)
    cells = (
        f"`{coverage.model_type}`",
        coverage.architecture,
        f"{coverage.parameters:,}",
        blocks,
        f"{coverage.uncovered:,}",
        str(coverage.others),
        f"{coverage.seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def write(covered: list[Coverage], reasons: dict[str, str]) -> str:
    """Return the whole report."""
    import transformers

    blocks: Counter[str] = Counter()
    for coverage in covered:
        blocks.update(dict(coverage.blocks))
    causes = Counter(map(_cause, reasons.values()))
    return "\n".join([
        "# Coverage of model types",
        "",
        f"lora-probe {__version__} over every model type that transformers {transformers.__version__}",
        "registers, default configs on the meta device; written by `make coverage-report`.",
        "Sizes are elements, tied weights counted once. A site is a place for a low-rank update;",
        "uncovered parameters are norms, positions and the like; *other* counts sites without a word.",
        "",
        f"- {len(covered) + len(reasons)} types are registered, {len(covered)} build.",
        f"- {sum(blocks.values()):,} sites, {blocks['other']} of them *other*.",
        f"- Sites by block: {', '.join(f'{block} {count:,}' for block, count in blocks.most_common())}.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---|--:|---|--:|--:|--:|",
        *map(line, covered),
        "",
        "## What does not build, and why",
        "",
        *(f"- {count} types: {cause}" for cause, count in causes.most_common()),
        "",
        "| model type | reason |",
        "|---|---|",
        *(f"| `{model_type}` | {_cell(reason)} |" for model_type, reason in sorted(reasons.items())),
        "",
    ])  # fmt: skip


def _coverage(model_type: str, graph: ModuleGraph, seconds: float) -> Coverage:
    blocks = Counter(site.block for site in graph)
    return Coverage(
        model_type=model_type,
        architecture=graph.architecture,
        parameters=graph.total_parameters,
        blocks=tuple(sorted(blocks.items(), key=lambda item: (-item[1], item[0]))),
        uncovered=graph.uncovered_parameters,
        seconds=seconds,
    )


def _cause(reason: str) -> str:
    """Return what many types have in common: a missing class or library, or a config that is refused."""
    if reason.startswith("no causal LM"):
        return reason
    for library in ("timm", "torchaudio", "natten", "detectron2"):
        if library in reason:
            return f"the class needs {library}"
    return "the default config is refused by its own class"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:160]


def main() -> None:
    """Write the report; takes some minutes."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # default configs warn about themselves
    reasons: dict[str, str] = {}
    covered = list(cover(model_types(), reasons=reasons))
    REPORT.write_text(write(covered, reasons), "utf-8")
    print(f"{REPORT}: {len(covered)} model types")  # noqa: T201 - a command says what it did


if __name__ == "__main__":
    main()
