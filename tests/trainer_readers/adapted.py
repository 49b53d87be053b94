"""What a trainer adapted, in the names of the model without adapters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["answer_cases", "what_is_trained"]


def what_is_trained(model: Any) -> dict[str, Any]:
    """Return the parameters `adapted`, each with its rank and factor, and the names of others `trained`."""
    from peft.tuners.lora.layer import LoraLayer  # Not before Unsloth, which patches it.

    adapted = {}
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            original = path.removeprefix("base_model.model.").replace(".base_layer", "")
            parameter = f"{original}.{getattr(module, 'parameter_name', 'weight')}"
            ((name, rank),) = module.r.items()
            adapted[parameter] = (rank, module.scaling[name])
    trained = [name for name, each in model.named_parameters() if each.requires_grad and "lora_" not in name]
    return {"adapted": adapted, "trained": trained}


def answer_cases(answer: Callable[[dict[str, str]], dict[str, Any]]) -> None:
    """Write into the second file named on the command line what `answer` says of each case of the first."""
    cases = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    Path(sys.argv[2]).write_text(json.dumps([answer(case) for case in cases]), "utf-8")
