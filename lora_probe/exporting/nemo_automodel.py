r"""NeMo Automodel: the `peft` section of its YAML.

Source: `components/_peft/lora.py` and `components/_peft/module_matcher.py` of nemo-automodel 0.7. An entry
of `target_modules` is a full path, or a pattern in which `*` stands for anything and every other character
is read as in a regular expression, a dot as any one character. Only nn.Linear is adapted, whatever else a
pattern fits; experts are one module in classes of its own, with another adapter than PEFT's.
`match_all_linear`, which takes the output, too, is never written. Dropout comes after the adapter there
unless told otherwise. Alphas are whole numbers. Models with experts it writes anew; of a few, the attention
is known to keep its names.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from lora_probe.exporting.by_role import check_one_rank
from lora_probe.exporting.documents import yaml_text
from lora_probe.graph import Kind
from lora_probe.targets.suffixes import shortest_suffixes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_probe.exporting.plan import Plan

__all__ = ["EXPERT_TYPES", "matched", "write"]

EXPERT_TYPES = frozenset({"deepseek_v3", "ernie4_5_moe", "glm4_moe", "gpt_oss", "minimax_m2", "qwen3_moe"})
"""Types with experts whose attention has the same names there; DeepSeek-V4's, for one, has others."""


def write(plan: Plan) -> str:
    """Return the section to put into a recipe.

    Raises:
        NotExportable: there is no field for an option or for these targets.

    """
    plan.allow_only("use_dora", "task_type")
    plan.allow_tasks("CAUSAL_LM")
    check_one_rank(plan)
    linear = [site.path for site in plan.graph.sites if site.kind is Kind.LINEAR]
    wanted = [site.path for site in plan.sites]
    if other := sorted(set(wanted).difference(linear)):
        raise plan.refusal("it adapts nn.Linear only", other)
    if any(site.block == "experts" for site in plan.graph.sites):
        known = plan.graph.model_type in EXPERT_TYPES
        if others := [site.path for site in plan.sites if not known or site.block != "attention"]:
            raise plan.refusal(
                "its own classes for models with experts may name these layers otherwise", others
            )
    peft: dict[str, Any] = {
        "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
        "target_modules": _patterns(plan, wanted, linear),
        "dim": plan.settings.rank,
        "alpha": plan.whole_alpha(),
        "dropout": plan.settings.dropout,
    }
    if plan.settings.dropout:
        peft["dropout_position"] = "pre"
    if plan.settings.use_dora:
        peft["use_dora"] = True
    return yaml_text(plan.header(), {"peft": peft})


def matched(patterns: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return the paths that Automodel takes for `patterns` (`wildcard_match`)."""
    compiled = [re.compile(_as_expression(pattern)) for pattern in patterns]
    return [path for path in paths if path in patterns or any(each.fullmatch(path) for each in compiled)]


def _as_expression(pattern: str) -> str:
    """Return what Automodel makes of a pattern: with a dot before it, a star may stand for no segment."""
    return re.sub(r"\.?\*", lambda star: ".*" if star[0] == "*" else r"(\..*)?", pattern)


def _patterns(plan: Plan, wanted: Sequence[str], linear: Sequence[str]) -> list[str]:
    """Return patterns for exactly the wanted paths: for any layer if that is exact, else plain ones."""
    names = shortest_suffixes(wanted, linear)
    if names is None:
        raise plan.refusal("the names of these layers are the ends of other layers' names", wanted)
    for spelled in (_in_any_layer, str, re.escape):
        found: dict[str, None] = {}
        for name in names:
            if name in wanted:
                found[spelled(name)] = None
            if any(path.endswith(f".{name}") for path in wanted):
                found[f"*{spelled(f'.{name}')}"] = None
        if matched(list(found), linear) == list(wanted):
            return _needed(list(found), linear)
    raise plan.refusal("no patterns with * take exactly these layers", wanted)


def _needed(patterns: Sequence[str], linear: Sequence[str]) -> list[str]:
    """Return `patterns` without those whose paths the others take, too."""
    taken = {pattern: matched([pattern], linear) for pattern in patterns}
    times = Counter(path for paths in taken.values() for path in paths)
    for pattern in reversed(patterns):
        if all(times[path] > 1 for path in taken[pattern]):
            times.subtract(taken.pop(pattern))
    return list(taken)


def _in_any_layer(name: str) -> str:
    return re.sub(r"(?<=\w\.)\d+(?=\.)", "*", name)
