"""Write the sample pages of reports/budgets: ``python -m tests.budget_samples``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lora_probe
from lora_probe.report.budget_html import budget_page

__all__ = ["FOLDER", "SAMPLES", "sample_page"]

FOLDER = Path(__file__).parents[1] / "reports" / "budgets"
SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "dense.html": ("meta-llama/Llama-3.1-8B", {}),
    "experts.html": ("Qwen/Qwen3-30B-A3B", {"max_parameters": "50M"}),
    "vision-language.html": ("google/gemma-3-4b-it", {"max_adapter_size": "50MB"}),
    "hybrid.html": ("Qwen/Qwen3.5-9B", {"ranks": (8, 16, 64)}),
    "speech.html": ("openai/whisper-large-v3", {"equal_to": "qv:r=32", "use_dora": True}),
}
"""By file name: a model of each sort, and what is asked of it."""


def sample_page(name: str) -> str:
    """Return one page as it is written."""
    model, question = SAMPLES[name]
    graph = lora_probe.scan(model, source="catalogue")
    return budget_page(lora_probe.budget(graph, by="role-layer", **question))


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SAMPLES:
        (FOLDER / name).write_text(sample_page(name), encoding="utf-8")
        sys.stdout.write(f"wrote {(FOLDER / name).relative_to(FOLDER.parents[1])}\n")


if __name__ == "__main__":
    main()
