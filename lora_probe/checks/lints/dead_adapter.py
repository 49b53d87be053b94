"""An adapter that never, or not always, takes part in the forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.near import quoted
from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule
from lora_probe.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    dead, partly = case.bypassed
    if case.refusal and case.refusal.rule == "mamba-module":
        names = {path.rpartition(".")[2] for path in case.refusal.where}
        refused = [path for path in case.written if path.rpartition(".")[2] in names]
        yield Hit(
            message=f"PEFT refuses this: {case.refusal.reason}",
            paths=tuple(refused),
            fix=_without(case, refused),
        )
        return
    if case.adapters and not case.settings.alpha and not case.settings.alpha_pattern:
        yield Hit(
            message="lora_alpha is 0: every adapter is multiplied by it, and gets no gradient",
            paths=tuple(adapter.module for adapter in case.adapters),
            fix="set lora_alpha to the rank, or to twice the rank",
        )
    # An attention that is adapted as a whole takes its out_proj with it, by adding the product to the weight.
    alive = {adapter.module for adapter in case.adapters if adapter.key != adapter.module}
    hit = [path for path in case.targeted if path in dead and path not in alive]
    if hit:
        yield Hit(
            message=f"{len(hit)} adapter{'s' if len(hit) > 1 else ''} can never work: {_parents(case, hit)} "
            "reads the weight of the layer instead of calling it",
            paths=tuple(hit),
            fix=_without(case, hit),
        )
    if hit := [path for path in case.targeted if path in partly]:
        yield Hit(
            severity=Severity.WARNING,
            message=f"{len(hit)} adapter{'s' if len(hit) > 1 else ''} may not work: on one way through its "
            f"code ({_ways(case, hit)}), {_parents(case, hit)} reads the weight of the layer instead of "
            "calling it",
            paths=tuple(hit),
            fix=f"{_without(case, hit)}, or make sure that training does not go that way",
        )


def _parents(case: Case, paths: list[str]) -> str:
    classes = case.inventory.classes
    return " and ".join(dict.fromkeys(classes.get(path.rpartition(".")[0], "") for path in paths))


def _ways(case: Case, paths: list[str]) -> str:
    if all(case.inventory.by_module[path].kind is Kind.EMBEDDING for path in paths):
        return "for inputs of another size, mostly"
    return "a fused kernel on the GPU, mostly"


def _without(case: Case, paths: list[str]) -> str:
    if set(paths) == set(case.targeted):
        return "name other layers"
    names = dict.fromkeys(path.rpartition(".")[2] for path in paths)
    if len(names) < len(case.names) and names.keys() <= set(case.names):
        return f"leave out {', '.join(map(repr, names))}"
    ends = dict.fromkeys(".".join(path.split(".")[-2:]) for path in paths)
    return f"add exclude_modules=[{quoted(ends)}]"


RULE = Rule(
    name="dead-adapter",
    severity=Severity.ERROR,
    happens="An adapter is trained, saved and counted, but its layer is never called: it stays at zero or "
    "gets no gradient, with every loss curve looking normal.",
    why="LoRA works inside the call of the layer it wraps. nn.MultiheadAttention hands its out_proj's weight "
    "to one fused function, Mamba mixers hand theirs to a fused kernel, some code multiplies by the weight "
    "itself. PEFT refuses this for five Mamba types; here the model's own code is read, whatever its type.",
    fix="Leave the layer out; for nn.MultiheadAttention target the attention module itself.",
    sources=("huggingface/peft#2556", "huggingface/peft#761"),
    examine=_examine,
)
