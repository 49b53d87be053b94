"""An adapter whose tensors have other shapes than the model's layers call for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.checks.records import Severity
from lora_probe.checks.rule import Hit, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_probe.checks.case import Case


def _examine(case: Case) -> Iterator[Hit]:
    audit = case.audit
    if audit is None or not audit.misshapen:
        return
    name, (stored, wanted) = next(iter(audit.misshapen.items()))
    ranks = {
        shape[0]
        for key, (shape, want) in audit.misshapen.items()
        if ".lora_A." in key and shape[1:] == want[1:]
    }
    factors = [key for key in audit.misshapen if ".lora_A." in key]
    only_rank = len(ranks) == 1 and len(factors) * 2 == len(audit.misshapen)
    yield Hit(
        message=f"{len(audit.misshapen):,} tensor{'s' if len(audit.misshapen) > 1 else ''} have another "
        f"shape than the model calls for, first {name}: {_shape(stored)} instead of {_shape(wanted)}",
        paths=tuple(audit.misshapen),
        fix=f"the tensors have rank {min(ranks)}: set r or rank_pattern in the config to it"
        if only_rank
        else "load the adapter on the model that it was trained on",
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


RULE = Rule(
    name="adapter-shape",
    severity=Severity.ERROR,
    happens="PEFT raises on loading: size mismatch.",
    why="The rank in the config (r, or a rank_pattern) is not the one in the file, or the layers of this "
    "model are of other widths: another size of the same family, or a vocabulary that was resized.",
    fix="Correct r or rank_pattern, or take the right base model.",
    sources=("peft/utils/save_and_load.py, set_peft_model_state_dict",),
    examine=_examine,
)
