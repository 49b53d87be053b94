"""Counts that other people published for real models, with where each was found."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe import budget, scan
from lora_probe.catalog import find
from lora_probe.errors import UnmatchedTarget

if TYPE_CHECKING:
    from lora_probe import Budget, ModuleGraph

PUBLISHED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "published_counts.json").read_text(encoding="utf-8")
)
RIGHT = [each for each in PUBLISHED if "wrong" not in each]
WRONG = [each for each in PUBLISHED if "wrong" in each]
COUNTED = [each for each in WRONG if "counted" in each]
SCALES = {"M": 10**6, "B": 10**9}


def _name(published: dict[str, Any]) -> str:
    return f"{published['model']}-{published['named']}-r{published['rank']}"


@cache
def _graph(model: str, changes: str, folder: Path) -> ModuleGraph:
    """Return the graph of a model of the catalogue, with another head where `changes` says so."""
    entry = find(model)
    assert entry is not None, f"{model} is not in the catalogue"
    if not json.loads(changes):
        return scan(model, source="catalogue")
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({**entry.config, **json.loads(changes)}), encoding="utf-8")
    return scan(str(path))


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for configs that differ from the catalogue's."""
    return tmp_path_factory.mktemp("configs")


def _count(published: dict[str, Any], configs: Path) -> tuple[ModuleGraph, Budget]:
    graph = _graph(
        published.get("shapes_of", published["model"]), json.dumps(published.get("config", {})), configs
    )
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in published.get("options", {}).items()
    }
    targets = published.get("targets", published["named"])
    return graph, budget(graph, targets, published["rank"], by="role", **options)


def _as_published(count: int, graph: ModuleGraph, form: int | str) -> int | str:
    """Return `count` in the form in which the figure was published: exact, rounded, or a share in percent."""
    if isinstance(form, int):
        return count
    digits = len(form[:-1].partition(".")[2])
    if form.endswith("%"):  # of the model together with its adapter, as PEFT prints it
        return f"{100 * count / (graph.total_parameters + count):.{digits}f}%"
    return f"{count / SCALES[form[-1]]:.{digits}f}{form[-1]}"


def test_how_many_figures_are_checked() -> None:
    """Of 85 figures 76 are right and matched, two of these with a stated difference; 9 are wrong."""
    assert (len(PUBLISHED), len(RIGHT), len(WRONG)) == (85, 76, 9)
    assert [each["model"] for each in RIGHT if "extra" in each] == ["openai/gpt-oss-20b", "Qwen/Qwen3.5-9B"]
    assert [each["model"] for each in WRONG if "counted" not in each] == ["unsloth/gemma-4-E2B-it"]


@pytest.mark.parametrize("published", RIGHT, ids=_name)
def test_a_right_figure_is_matched_exactly(published: dict[str, Any], configs: Path) -> None:
    """What was published for a model is what the budget says, to the last digit that was published."""
    graph, found = _count(published, configs)
    count = found.rows[0].trainable_parameters + published.get("extra", {}).get("parameters", 0)
    assert _as_published(count, graph, published["trainable_parameters"]) == published["trainable_parameters"]


@pytest.mark.parametrize("published", [each for each in RIGHT if "all_parameters" in each], ids=_name)
def test_the_total_with_the_adapter_is_matched_exactly(published: dict[str, Any], configs: Path) -> None:
    """A printed total is the model's parameters and what PEFT adds to them; biases are trained in place."""
    graph, found = _count(published, configs)
    added = sum(part.trainable_parameters for part in found.parts if part.role != "biases")
    assert graph.total_parameters + added == published["all_parameters"]


@pytest.mark.parametrize("published", COUNTED, ids=_name)
def test_a_wrong_figure_is_known_to_be_wrong(published: dict[str, Any], configs: Path) -> None:
    """A figure that cannot be right is listed with its reason and with the count that PEFT makes."""
    graph, found = _count(published, configs)
    count = found.rows[0].trainable_parameters
    assert count == published["counted"], published["wrong"]
    shown = _as_published(count, graph, published["trainable_parameters"])
    assert shown != published["trainable_parameters"]


@pytest.mark.parametrize(
    "published", [each for each in RIGHT if "name no layer" in each.get("why_targets", "")], ids=_name
)
def test_names_that_adapted_nothing_are_refused(published: dict[str, Any], configs: Path) -> None:
    """Where a published list has names that PEFT silently ignores, the list as it stands is an error."""
    with pytest.raises(UnmatchedTarget, match="gate_proj"):
        _count({**published, "targets": published["named"]}, configs)
