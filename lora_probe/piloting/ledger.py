"""What was measured so far, looked up by trial and step: the same whatever the order of the log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_probe.piloting.records import Evaluated, Failed, Failure, Split, Trained

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_probe.piloting.records import Result, Trial

__all__ = ["Ledger"]


class Ledger:
    """An index over results. Where one is there twice, either is taken, but always the same one."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._evaluated: dict[Trial, dict[tuple[Split, int], Evaluated]] = {}
        self._failed: dict[Trial, Failed] = {}
        self._trained: dict[tuple[Trial, int], Trained] = {}
        for result in results:
            if isinstance(result, Trained):
                self._add_trained(result)
            elif isinstance(result, Failed):
                self._add_failed(result)
            elif math.isfinite(result.loss) or result.split is Split.RETENTION:  # which decides nothing
                self._add_evaluated(result)
            else:
                self._add_failed(_not_finite(result))

    def evaluated(self, trial: Trial, step: int, split: Split = Split.TUNING) -> Evaluated | None:
        """Return the losses of `trial` after `step` steps, None where they were not measured."""
        return self._evaluated.get(trial, {}).get((split, step))

    def evaluations(self, trial: Trial, split: Split = Split.TUNING) -> tuple[Evaluated, ...]:
        """Return all losses of `trial` on one split, by rising step."""
        found = self._evaluated.get(trial, {})
        return tuple(found[on, step] for on, step in sorted(found) if on is split)

    def failed(self, trial: Trial) -> Failed | None:
        """Return why `trial` failed; None where it did not, or was seen at a later step since."""
        failure = self._failed.get(trial)
        return failure if failure and failure.step >= self.furthest(trial) else None

    def furthest(self, trial: Trial) -> int:
        """Return the last step at which `trial` was evaluated; -1 where it never was."""
        return max((step for _, step in self._evaluated.get(trial, {})), default=-1)

    def trials(self) -> tuple[Trial, ...]:
        """Return every trial of which anything is known, in the order of their fields."""
        return tuple(sorted({*self._evaluated, *self._failed, *(of for of, _ in self._trained)}))

    def failures(self) -> tuple[Failed, ...]:
        """Return every failure that still stands, by trial."""
        return tuple(each for trial in sorted(self._failed) if (each := self.failed(trial)))

    def trained(self, trial: Trial) -> tuple[Trained, ...]:
        """Return the stretches of training of `trial`, by step: what was run again counts once."""
        found = sorted(
            (each for (of, _), each in self._trained.items() if of == trial), key=lambda each: each.start
        )
        behind, stretches = 0, []
        for each in found:
            if each.start + len(each.losses) > behind:
                stretches.append(each)
                behind = each.start + len(each.losses)
        return tuple(stretches)

    def passes(self) -> tuple[Trained, ...]:
        """Return every stretch of training that was logged, also what was run again."""
        return tuple(self._trained[key] for key in sorted(self._trained))

    def _add_evaluated(self, result: Evaluated) -> None:
        found = self._evaluated.setdefault(result.trial, {})
        known = found.get((result.split, result.step))
        if known is None or (result.nll, result.tokens) < (known.nll, known.tokens):
            found[result.split, result.step] = result

    def _add_failed(self, result: Failed) -> None:
        known = self._failed.get(result.trial)
        if known is None or _later(result) > _later(known):
            self._failed[result.trial] = result

    def _add_trained(self, result: Trained) -> None:
        key = result.trial, result.start
        known = self._trained.get(key)
        if known is None or _longer(result) > _longer(known):
            self._trained[key] = result


def _later(result: Failed) -> tuple[int, str, str]:
    return result.step, result.failure.value, result.reason


def _longer(result: Trained) -> tuple[int, float, tuple[float, ...]]:
    return len(result.losses), result.seconds, result.losses


def _not_finite(result: Evaluated) -> Failed:
    return Failed(
        trial=result.trial,
        step=result.step,
        failure=Failure.DIVERGED,
        reason=f"its loss on the {result.split} part is {result.loss}",
    )
