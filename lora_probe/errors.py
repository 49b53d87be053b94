"""The one tree of errors that a user can cause.

Every class takes facts, keeps them as attributes, and builds its own sentence: what is wrong, where, what is
near it, what to do. The command line turns exactly this tree into ``Error: …`` and exit code 2; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.text import columns, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LoraProbeError"]

_SHOWN = 100
"""Characters of a name, and of a text on either side of a fault, that a message shows."""


class LoraProbeError(Exception):
    """Base of everything that bad input or a missing resource can cause."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def near_misses(near: Sequence[str]) -> str:
    """Return the clause that names close matches, empty when there are none."""
    shown = (printable(name, limit=_SHOWN) for name in near)
    return f"; close names: {', '.join(shown)}" if near else ""


class GraphFormatError(LoraProbeError, ValueError):
    """A document is not a module graph that this version can read."""

    def __init__(self, *, problem: str) -> None:
        self.problem = problem
        super().__init__(f"not a lora-probe module graph: {problem}")


class UnreadableFile(LoraProbeError, OSError):
    """A path that should hold a file cannot be read."""

    def __init__(self, *, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot read {path}: {reason}")


class BadConfig(LoraProbeError, ValueError):
    """A ``config.json`` is not what its name says."""

    def __init__(self, *, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"{where} is no model config: {problem}")


class ImplausibleConfig(LoraProbeError, ValueError):
    """A config names a size that no model can have."""

    def __init__(self, *, path: str, value: str, problem: str) -> None:
        self.path, self.value, self.problem = path, value, problem
        super().__init__(f"the config's {path} {problem}, got {value}")


class ModelNotFound(LoraProbeError, FileNotFoundError):
    """Neither a path nor an id that any source knows."""

    def __init__(self, *, model: str, problem: str, near: Sequence[str] = (), advice: str = "") -> None:
        self.model, self.problem, self.near, self.advice = model, problem, tuple(near), advice
        super().__init__(f"{model}: {problem}{near_misses(near)}{f'; {advice}' if advice else ''}")


class SourceUnavailable(LoraProbeError, ValueError):
    """The source that was asked for cannot hold this model."""

    def __init__(self, *, model: str, source: str, problem: str, near: Sequence[str] = ()) -> None:
        self.model, self.source, self.problem, self.near = model, source, problem, tuple(near)
        super().__init__(f"{model} cannot come from source {source!r}: {problem}{near_misses(near)}")


class UnknownArchitecture(LoraProbeError, LookupError):
    """The installed transformers has no class for a config."""

    def __init__(self, *, problem: str, advice: str) -> None:
        self.problem, self.advice = problem, advice
        super().__init__(f"{problem}; {advice}")


class BuildError(LoraProbeError, ValueError):
    """A model class refused a config."""

    def __init__(self, *, architecture: str, reason: str, advice: str) -> None:
        self.architecture, self.reason, self.advice = architecture, reason, advice
        super().__init__(f"{architecture} cannot be built from this config ({reason}); {advice}")


class BuildTooLarge(LoraProbeError, ValueError):
    """Building a model passed a bound of time, memory or size."""

    def __init__(self, *, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(f"building {what} takes {problem}: check the sizes in its config")


class PeftRefusal(LoraProbeError, ValueError):
    """PEFT would raise for these settings on this model."""

    def __init__(self, *, rule: str, reason: str, where: Sequence[str] = ()) -> None:
        self.rule, self.reason, self.where = rule, reason, tuple(where)
        shown = ", ".join((*self.where[:3], "…")[: len(self.where)])
        super().__init__(f"PEFT refuses this: {reason}{f' ({shown})' if shown else ''}")


class HubError(LoraProbeError, ConnectionError):
    """The hub refused a request, or could not be reached."""

    def __init__(self, *, model: str, problem: str, advice: str, near: Sequence[str] = ()) -> None:
        self.model, self.problem, self.advice, self.near = model, problem, advice, tuple(near)
        super().__init__(f"{model}: {problem}{near_misses(near)}; {advice}")


class BadQuantity(LoraProbeError, ValueError):
    """A number with a unit that cannot be read exactly."""

    def __init__(self, *, option: str, text: str, problem: str, example: str) -> None:
        self.option, self.text, self.problem, self.example = option, text, problem, example
        shown = printable(text, limit=40)
        super().__init__(f"{option}: {shown!r} {problem}; write for instance {example}")


class BadRank(LoraProbeError, ValueError):
    """A rank that no adapter can have."""

    def __init__(self, *, rank: object, problem: str, where: str) -> None:
        self.rank, self.problem, self.where = rank, problem, where
        super().__init__(f"rank {problem}, got {printable(str(rank), limit=40)}, in {where}")


class ConflictingOptions(LoraProbeError, ValueError):
    """Options of which only one can be meant."""

    def __init__(self, *, options: Sequence[str], problem: str) -> None:
        self.options, self.problem = tuple(options), problem
        super().__init__(f"{' and '.join(self.options)}: {problem}")


class UnwritableOutput(LoraProbeError, OSError):
    """A report cannot be written where it should go."""

    def __init__(self, *, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot write {path}: {reason}")


class NoSuchModels(LoraProbeError, LookupError):
    """No model of the catalogue fits a pattern."""

    def __init__(self, *, pattern: str, near: Sequence[str]) -> None:
        self.pattern, self.near = pattern, tuple(near)
        super().__init__(f"no model in the catalogue matches {pattern!r}{near_misses(near)}")


class UnknownRule(LoraProbeError, LookupError):
    """There is no lint of that name."""

    def __init__(self, *, name: str, near: Sequence[str]) -> None:
        self.name, self.near = name, tuple(near)
        super().__init__(f"there is no rule {printable(name, limit=60)!r}{near_misses(near)}")


class BadTargets(LoraProbeError, ValueError):
    """A target set that can be read in none of the forms in which people write one."""

    def __init__(self, *, text: str, problem: str, near: Sequence[str] = (), advice: str = "") -> None:
        self.text, self.problem, self.near, self.advice = text, problem, tuple(near), advice
        clause = f"; {advice}" if advice else ""
        super().__init__(f"targets {printable(text, limit=80)!r}: {problem}{near_misses(near)}{clause}")


class BadAdapter(LoraProbeError, ValueError):
    """A folder or a config that should hold a LoRA adapter of PEFT and does not."""

    def __init__(self, *, where: str, problem: str, advice: str = "") -> None:
        self.where, self.problem, self.advice = where, problem, advice
        super().__init__(f"{where}: {problem}{f'; {advice}' if advice else ''}")


class UnknownEngine(LoraProbeError, ValueError):
    """There are no rules for a serving engine of that name."""

    def __init__(self, *, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        shown = printable(name, limit=60)
        super().__init__(f"there are no rules for the serving engine {shown!r}; known: {', '.join(known)}")


class CheckpointNotFound(LoraProbeError, FileNotFoundError):
    """A model has no safetensors files whose headers could be read."""

    def __init__(self, *, model: str, advice: str) -> None:
        self.model, self.advice = model, advice
        super().__init__(f"{model} has no safetensors files to read names and shapes from; {advice}")


class BadCheckpoint(LoraProbeError, ValueError):
    """A checkpoint's header or index is damaged, or lies."""

    def __init__(self, *, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"{where} cannot be trusted: {problem}")


class UnknownChoice(LoraProbeError, ValueError):
    """A word that is none of those that an option takes."""

    def __init__(self, *, option: str, value: object, known: Sequence[str]) -> None:
        self.option, self.value, self.known = option, value, tuple(known)
        shown = printable(str(value), limit=40)
        super().__init__(f"{option} must be one of {', '.join(known)}, got {shown!r}")


def pointed_at(text: str, position: int) -> str:
    """Return two lines: what of `text` is around `position`, and a caret under the character there."""
    start, end = max(position - _SHOWN, 0), position + _SHOWN
    before = f"{'…' if start else ''}{printable(text[start:position])}"
    after = f"{printable(text[position:end])}{'…' if end < len(text) else ''}"
    return f"\n  {before}{after}\n  {' ' * columns(before)}^"


class TargetSyntaxError(LoraProbeError, ValueError):
    """A target text does not follow the grammar."""

    def __init__(self, *, text: str, position: int, expected: str) -> None:
        self.text, self.position, self.expected = text, position, expected
        got = repr(text[position : position + 12]) if position < len(text) else "the end"
        super().__init__(f"targets: expected {expected}, got {got} at character {position + 1}")
        self.args = (self.args[0] + pointed_at(text, position),)


class UnmatchedTarget(LoraProbeError, LookupError):
    """A part of a target specification matches nothing in the model."""

    def __init__(
        self, *, target: str, problem: str, text: str = "", position: int = 0, near: Sequence[str] = ()
    ) -> None:
        self.target, self.problem, self.text, self.position = target, problem, text, position
        self.near = tuple(near)
        super().__init__(f"target {printable(target, limit=_SHOWN)} {problem}{near_misses(near)}")
        if text:
            self.args = (self.args[0] + pointed_at(text, position),)


class NotExpressible(LoraProbeError, ValueError):
    """No PEFT configuration means exactly these weights."""

    def __init__(self, *, paths: Sequence[str], reason: str) -> None:
        self.paths, self.reason = tuple(paths), reason
        shown = ", ".join((*self.paths[:3], "…")[: len(self.paths)]) or "nothing"
        super().__init__(f"no PEFT configuration means exactly {shown}: {reason}")


class NotExportable(LoraProbeError, ValueError):
    """A trainer's configuration cannot mean what is to be exported."""

    def __init__(self, *, trainer: str, reason: str, paths: Sequence[str] = ()) -> None:
        self.trainer, self.reason, self.paths = trainer, reason, tuple(paths)
        shown = ", ".join((*self.paths[:3], "…")[: len(self.paths)])
        super().__init__(f"{trainer} cannot say this: {reason}{f' ({shown})' if shown else ''}")


_MANY_EXPRESSIONS = 1000
"""From here on their number alone may take the time, however harmless each of them is."""


class SlowExpression(LoraProbeError, TimeoutError):
    """A regular expression backtracks without end, so that PEFT would hang on it, or there are too many."""

    def __init__(self, *, expressions: Sequence[str], seconds: float) -> None:
        self.expressions, self.seconds = tuple(expressions), seconds
        count = len(self.expressions)
        if count >= _MANY_EXPRESSIONS:
            super().__init__(
                f"matching {count:,} expressions takes more than {seconds:g} s, and PEFT as long: "
                "each is tried on every module; say with fewer which modules they mean"
            )
            return
        shown = " or ".join(printable(each, limit=_SHOWN) for each in self.expressions[:3])
        more = f" or one of {count - 3} more" if count > 3 else ""  # noqa: PLR2004 - those shown
        super().__init__(
            f"matching {shown}{more} takes more than {seconds:g} s, on which PEFT would hang: "
            "a repeat within a repeat, such as (.+)+, tries every way to divide a name"
        )
