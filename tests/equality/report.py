"""Writes reports/equality.md, how far stacks are from PEFT: ``python -m tests.equality.report``."""

from __future__ import annotations

import platform
import sys
import warnings
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tests.equality.comparison import BOUNDS, Deviations, deviations
from tests.equality.models import FAMILIES, HABITS, Subject, llama, trials_of
from tests.peft_loop import made_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["OPTIONS", "main", "render", "rows"]

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "reports" / "equality.md"
COMMAND = "python -m tests.equality.report"
PACKAGES = ("torch", "transformers", "peft")
TRIALS, STEPS = 5, 8
OPTIONS: dict[str, dict[str, Any]] = {
    "rsLoRA, no clipping, no accumulation": {"use_rslora": True, "clip": 0.0, "batch_size": 3},
    "hard clipping, weight decay, other betas": {"clip": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.95)},
    "activations computed again": {"gradient_checkpointing": True, "accumulation": 2},
}
"""Of training, on the Llama; everything else is trained with clipping at 1 and two micro-batches a step."""
PREFIX = Subject(build=llama, sets=(("q_proj", "v_proj"), ("down_proj",)), where=".2.")


def main() -> None:
    """Measure and write the report."""
    warnings.simplefilter("ignore")  # what PEFT and transformers tell a person who trains
    torch.set_num_threads(1)
    REPORT.write_text("\n".join([*render(rows()), ""]), encoding="utf-8")
    sys.stdout.write(f"wrote {REPORT.relative_to(ROOT)}\n")


def rows() -> dict[str, Mapping[str, tuple[str, Deviations]]]:
    """Return what was measured, by part of the report and name: the class of the model, and how far it is."""
    usual = {"accumulation": 2}
    return {
        "Families": {name: _row(subject, usual) for name, subject in FAMILIES.items()},
        "Habits of models": {name: _row(subject, usual) for name, subject in HABITS.items()},
        "Ways to train": {
            **{name: _row(FAMILIES["llama"], training) for name, training in OPTIONS.items()},
            "only the last layer, those below shared": _row(PREFIX, usual),
        },
    }


def _row(subject: Subject, training: Mapping[str, Any]) -> tuple[str, Deviations]:
    base = subject.build()
    plan = subject.plan(base, **training)
    found = deviations(base, made_data(subject.task), plan, trials_of(plan, TRIALS), steps=STEPS)
    return type(base).__name__, found


def render(found: Mapping[str, Mapping[str, tuple[str, Deviations]]]) -> Iterator[str]:
    """Yield the lines of the report."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield "# How far stacked trials are from PEFT"
    yield ""
    yield f"Written by `make equality-report` (`{COMMAND}`); tests hold the same models to the bounds below."
    yield ""
    yield f"- {platform.machine()}, Python {platform.python_version()}, {versions}"
    yield f"- {datetime.now(timezone.utc):%Y-%m-%d}; float32 on a CPU, one thread"
    yield ""
    yield (
        f"Small models with random weights; {TRIALS} trials of two or three target sets with other ranks, "
        f"learning rates and seeds train side by side in one stack for {STEPS} steps, on padded batches with "
        "labels on a part of the tokens. Beside them each trial is trained alone by a loop written by hand "
        "around `peft.get_peft_model`, from the same A. What is shown is the largest difference over all "
        "trials, steps and modules: of losses in nats per token; of gradients, any element as a share of the "
        "norm of its trial's gradient; of A and B after the last step, any element."
    )
    for part, measured in found.items():
        yield ""
        yield f"## {part}"
        yield ""
        yield "| what | class | losses | gradient norms | gradients | A and B |"
        yield "|:--|:--|--:|--:|--:|--:|"
        for name, (model, each) in measured.items():
            yield f"| {name} | {model} | {' | '.join(_figures(each))} |"
    yield ""
    yield f"Bounds of the tests: {', '.join(_figures(BOUNDS))}, in this order."


def _figures(each: Deviations) -> Iterator[str]:
    for value in (each.losses, each.norms, each.gradients, each.matrices):
        yield f"{value:.1e}"


if __name__ == "__main__":
    main()
