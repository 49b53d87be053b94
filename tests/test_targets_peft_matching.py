"""Our matching of names against PEFT's own functions, on names that no model has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.tuners_utils import _ExcludedModule, _find_minimal_target_modules, check_target_module_exists
from peft.utils.other import get_pattern_key

from lora_probe.peft_rules import LoraSettings
from lora_probe.peft_rules.inventory import Names
from lora_probe.peft_rules.matching import condensed, excluded_paths, layer_index, matched_paths, pattern_key

_SEGMENTS = st.sampled_from(
    ["model", "layers", "h", "0", "1", "12", "attn", "q_proj", "proj", "q", "lm_head"]
)
_PATHS = st.lists(_SEGMENTS, min_size=1, max_size=6).map(".".join)
_NAMES = st.lists(_PATHS, min_size=1, max_size=25, unique=True)
_EXPRESSIONS = st.sampled_from(
    [r".*\.q_proj", r"q_proj", r".*(q|proj)", r"model\..*\.\d+\..*", r".*", r"lm_head|h"]
)
_LISTS = st.lists(_PATHS, max_size=4, unique=True).map(tuple)


@st.composite
def _settings(draw: st.DrawFn) -> LoraSettings:
    target = draw(_LISTS | _EXPRESSIONS)
    fields: dict[str, Any] = {}
    if not isinstance(target, str) and draw(st.booleans()):
        fields["layers_to_transform"] = draw(
            st.integers(0, 12) | st.lists(st.integers(0, 12), max_size=2).map(tuple)
        )
        fields["layers_pattern"] = draw(st.sampled_from([None, "layers", ("h", "layers"), "model"]))
    return LoraSettings(
        target_modules=target,
        exclude_modules=draw(st.none() | _LISTS | _EXPRESSIONS),
        modules_to_save=draw(st.just(()) | st.lists(_SEGMENTS, max_size=2).map(tuple)),
        **fields,
    )


def _as_peft(settings: LoraSettings) -> SimpleNamespace:
    """Return the fields that PEFT's function reads, as a `LoraConfig` would hold them."""
    names = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save")
    values = {name: getattr(settings, name) for name in names}
    return SimpleNamespace(
        target_parameters=None,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
    )


@given(_NAMES, _settings())
def test_matching_agrees_with_peft_name_by_name(names: list[str], settings: LoraSettings) -> None:
    """Lists, expressions, exclusions, saved modules and layers select the same names in any combination."""
    index = Names(names)
    excluded, matched = excluded_paths(settings, index), matched_paths(settings, index)
    for name in names:
        judged = check_target_module_exists(_as_peft(settings), name)
        assert (name in excluded) == isinstance(judged, _ExcludedModule)
        assert (name in matched and name not in excluded) == bool(judged)


@given(_NAMES, st.data())
def test_long_lists_are_shortened_as_peft_does(names: list[str], data: st.DataObject) -> None:
    """From 20 names, PEFT replaces a list by suffixes; ours is the same list."""
    filler = [f"block.{number}.x" for number in range(20)]
    chosen = {*data.draw(st.lists(st.sampled_from(names), unique=True)), *filler}
    index = Names([*names, *filler])
    others = [name for name in index if name not in index.ending_with(chosen)]
    shortest = _find_minimal_target_modules(chosen, others)
    assert condensed(chosen, index) == (shortest if len(shortest) < len(chosen) else chosen)


@given(st.lists(_PATHS | st.sampled_from([r".*\.q", r"layers\.\d+\..*"]), max_size=4), _PATHS)
def test_a_pattern_key_is_found_as_peft_does(patterns: list[str], name: str) -> None:
    """The first key that fits the end of a name, or none; PEFT returns the name itself for none."""
    assert (pattern_key(patterns, name) or name) == get_pattern_key(patterns, name)


@given(_PATHS)
def test_the_layer_is_the_first_index_that_has_a_name_before_it_and_one_before_that(name: str) -> None:
    """The index must follow two names: of ``layers.0.q`` PEFT knows no layer."""
    segments = name.split(".")
    places = [place for place in range(2, len(segments) - 1) if segments[place].isdigit()]
    assert layer_index(name) == (int(segments[places[0]]) if places else None)
