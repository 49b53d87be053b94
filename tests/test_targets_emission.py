"""Emitting: exact sites become the shortest settings that PEFT reads as exactly them."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lora_probe import Module, ModuleGraph, emit, resolve
from lora_probe.errors import NotExpressible
from lora_probe.graph import Adaptable, Kind
from lora_probe.peft_rules import LoraSettings, predict
from lora_probe.peft_rules.inventory import ends
from lora_probe.targets.expressions import alternatives, exact_expression, numbers
from lora_probe.targets.suffixes import shortest_suffixes
from tests.handmade import make_graph, make_site, tiny_graph


def _read_back(graph: ModuleGraph, settings: LoraSettings) -> set[str]:
    return {site.parameter for site in predict(graph, settings).sites}


def _decoder(layers: int = 16, **facts: str) -> ModuleGraph:
    """Return a text model with a vision tower whose modules have the same names, and all containers."""
    sites = [
        make_site(f"{stem}.layers.{layer}.{module}", 8, 8, tower=tower, block=block, part=part)
        for stem, tower, count in (("model.language", "text", layers), ("model.visual", "vision", 4))
        for layer in range(count)
        for module, block, part in (
            ("attn.q_proj", "attention", "q"),
            ("attn.o_proj", "attention", "o"),
            ("mlp.down_proj", "mlp", "down"),
        )
    ]
    sites.append(make_site("lm_head", 8, 90, block="head"))
    paths = dict.fromkeys(
        start for site in sites for start in sorted((site.path, *_around(site.path)), key=len)
    )
    modules = tuple(Module(path=path, class_name="") for path in ("", *paths))
    return make_graph(sites, modules=modules, **facts)


def _around(path: str) -> list[str]:
    segments = path.split(".")
    return [".".join(segments[:size]) for size in range(1, len(segments))]


@pytest.mark.parametrize(
    ("spec", "targets", "layers"),
    [
        ("attention", ("q_proj", "o_proj"), None),
        ("all-linear - vision:", r"lm_head|.*\.language\..*\.(down|o|q)_proj", None),
        ("head", ("lm_head",), None),
        ("vision:mlp@0,2", ("visual.layers.0.mlp.down_proj", "visual.layers.2.mlp.down_proj"), None),
        ("attention@0", ("0.attn.q_proj", "0.attn.o_proj"), None),
        ("attention@0-3", ("q_proj", "o_proj"), (0, 1, 2, 3)),
        ("(attention+mlp)@1-3+head", ("q_proj", "o_proj", "down_proj", "lm_head"), (1, 2, 3)),
        ("text:attention@8-15", ("q_proj", "o_proj"), (8, 9, 10, 11, 12, 13, 14, 15)),
        ("text:attention@2-9", r".*\.language\..*\.[2-9]\..*\.[oq]_proj", None),
    ],
)
def test_the_shortest_form_is_taken(spec: str, targets: object, layers: object) -> None:
    """A short list comes first, then layers, then an expression; each is read back as the same sites."""
    graph = _decoder()
    sites = resolve(graph, spec)
    settings = emit(graph, sites)
    assert (settings.target_modules, settings.layers_to_transform) == (targets, layers)
    assert _read_back(graph, settings) == {site.parameter for site in sites}


def test_a_trainer_without_expressions_and_layers_gets_a_list() -> None:
    """Forms that a trainer cannot read are left out on request, at the price of a longer list."""
    graph = _decoder()
    sites = resolve(graph, "text:attention@2-9")
    excluding = emit(graph, sites, layers=False, expressions=False)
    assert excluding.target_modules == ("q_proj", "o_proj")
    assert isinstance(excluding.exclude_modules, str)
    plain = emit(graph, sites, layers=False, expressions=False, exclusions=False)
    assert plain.target_modules[:3] == (
        "language.layers.2.attn.q_proj",
        "language.layers.2.attn.o_proj",
        "language.layers.3.attn.q_proj",
    )
    assert plain.target_modules[4] == "4.attn.q_proj"  # which the shorter tower does not have
    for settings in (excluding, plain):
        assert _read_back(graph, settings) == {site.parameter for site in sites}


def test_other_settings_stay_as_they_are() -> None:
    """Emission fills in targets and nothing else."""
    settings = LoraSettings(rank=3, use_dora=True, bias="all", layers_pattern=None)
    emitted = emit(tiny_graph(), resolve(tiny_graph(), "mlp"), settings=settings)
    assert replace(emitted, target_modules=None) == settings


def test_experts_go_into_target_parameters_beside_an_empty_list() -> None:
    """Without the empty list, PEFT would add its default modules of the model type."""
    settings = emit(tiny_graph(), resolve(tiny_graph(), "experts+attention.q"))
    assert settings.target_modules == ("q_proj",)
    assert settings.target_parameters == ("down_proj", "gate_up_proj")
    assert emit(tiny_graph(), resolve(tiny_graph(), "experts")).target_modules == ()


def test_a_dense_layer_that_peft_would_rewrite_is_named_by_its_weight() -> None:
    """Where PEFT turns `down_proj` into the experts' parameter, the dense layer's weight is named instead."""
    graph = replace(tiny_graph(), model_type="qwen3_moe")
    sites = resolve(graph, "mlp.down+attention.o")
    settings = emit(graph, sites)
    assert settings.target_modules == ("o_proj",)
    assert settings.target_parameters == ("down_proj.weight",)
    assert _read_back(graph, settings) == {site.parameter for site in sites}


def test_an_expression_is_not_given_to_peft_where_it_takes_it_apart() -> None:
    """For rewritten model types, towers are kept apart by an exclusion, which PEFT leaves as it is."""
    graph = _decoder(model_type="qwen3_omni_moe_thinker")
    sites = resolve(graph, "text:attention")
    settings = emit(graph, sites)
    assert settings.target_modules == ("q_proj", "o_proj")
    assert settings.exclude_modules == r".*\.visual\..*\.[oq]_proj"
    assert _read_back(graph, settings) == {site.parameter for site in sites}


def _packed_graph() -> ModuleGraph:
    packed = {"kind": Kind.PACKED_ATTENTION, "parameter": "layers.0.attn.in_proj_weight"}
    return make_graph(
        [
            make_site("layers.0.attn", 8, 24, **packed),
            make_site("layers.0.attn.out_proj", 8, 8),
            make_site("layers.0.fc", 8, 8),
        ]
    )  # fmt: skip


def test_a_packed_attention_comes_with_its_output() -> None:
    """PEFT adapts both under the attention's name; the output is not named again."""
    graph = _packed_graph()
    assert emit(graph, graph.sites[:2]).target_modules == ("attn",)
    assert emit(graph, graph.sites).target_modules == ("attn", "fc")


@pytest.mark.parametrize(
    ("count", "reason"),
    [(0, "no site is wanted"), (1, "layers.0.attn.out_proj.weight comes with them")],
)
def test_sites_that_no_configuration_means_are_refused_with_the_reason(count: int, reason: str) -> None:
    """Half a packed attention, or nothing at all, cannot be said."""
    graph = _packed_graph()
    with pytest.raises(NotExpressible, match=re.escape(reason)):
        emit(graph, graph.sites[:count])


def test_a_weight_without_an_adapter_is_refused() -> None:
    """A site that PEFT has no layer for is named in the error."""
    graph = make_graph([make_site("up", 8, 8, kind=Kind.CONV, adaptable=None)])
    with pytest.raises(NotExpressible, match=r"exactly up\.weight: PEFT has no adapter"):
        emit(graph, graph.sites)


@pytest.mark.parametrize("adaptable", [None, Adaptable.MODULE])
def test_the_output_projection_of_mamba_is_refused_as_peft_refuses_it(adaptable: Adaptable | None) -> None:
    """What PEFT's blocklist holds is said before anything is written."""
    graph = make_graph([make_site("layers.0.out_proj", 8, 8, adaptable=adaptable)], model_type="mamba")
    with pytest.raises(NotExpressible, match="fused kernels of mamba"):
        emit(graph, graph.sites)


@given(st.data())
def test_any_subset_of_a_model_is_read_back_exactly(data: st.DataObject) -> None:
    """Whatever is chosen, what is emitted means it; forms left out on request are not used."""
    graph = data.draw(st.sampled_from([_decoder(6), _experts(), replace(_decoder(6), model_type="olmoe")]))
    sites = data.draw(
        st.lists(st.sampled_from(graph.sites), min_size=1, unique_by=lambda site: site.parameter)
    )
    forms = data.draw(
        st.fixed_dictionaries(dict.fromkeys(("layers", "expressions", "exclusions"), st.booleans()))
    )
    settings = emit(graph, sites, **forms)
    assert _read_back(graph, settings) == {site.parameter for site in sites}
    assert forms["layers"] or settings.layers_to_transform is None
    assert forms["expressions"] or not isinstance(settings.target_modules, str)
    assert forms["exclusions"] or settings.exclude_modules is None


def _experts() -> ModuleGraph:
    """Return a mixture without its routers, which no setting of PEFT combines with experts below them."""
    graph = tiny_graph()
    return make_graph([site for site in graph.sites if site.block != "router"], list(graph.uncovered))


def test_a_router_held_by_the_module_around_the_experts_cannot_be_combined_with_them() -> None:
    """PEFT wraps the module that holds a parameter, and then finds none of the modules in it."""
    sites = resolve(tiny_graph(), "router+experts")
    with pytest.raises(NotExpressible, match="hides the modules that it holds"):
        emit(tiny_graph(), sites)


_SEGMENTS = st.sampled_from(
    ["a", "b", "q_proj", "k_proj", "q_norm", "0", "1", "7", "12", "x-y", "a+b", "fc1", "fc2"]
)
_PATHS = st.lists(_SEGMENTS, min_size=1, max_size=4).map(".".join)


@given(st.sets(_PATHS, min_size=1, max_size=12), st.data())
def test_an_expression_matches_the_wanted_paths_and_no_others(names: set[str], data: st.DataObject) -> None:
    """Special characters are escaped, numbers and words are told apart, and nothing else matches."""
    wanted = data.draw(st.sets(st.sampled_from(sorted(names)), min_size=1))
    expression = re.compile(exact_expression(sorted(wanted), names))
    assert {name for name in names if expression.fullmatch(name)} == wanted


@given(st.sets(_PATHS, min_size=1, max_size=7), st.data())
def test_no_shorter_list_of_names_means_the_same(names: set[str], data: st.DataObject) -> None:
    """Against every choice of ends by brute force: the list is exact, and none with fewer names is."""
    wanted = data.draw(st.sets(st.sampled_from(sorted(names)), min_size=1, max_size=4))
    found = shortest_suffixes(sorted(wanted), names)

    def meant(suffixes: tuple[str, ...]) -> set[str]:
        return {name for name in names if not set(ends(name)).isdisjoint(suffixes)}

    candidates = sorted({end for name in wanted for end in ends(name)})
    assume(len(candidates) <= 12)
    best = next(
        (
            size
            for size in range(1, len(wanted) + 1)
            if any(meant(few) == wanted for few in combinations(candidates, size))
        ),
        None,
    )
    assert (found is None) == (best is None)
    assert found is None or (meant(found) == wanted and len(found) == best)


@given(st.sets(st.integers(0, 130), min_size=1))
def test_an_expression_for_numbers_matches_exactly_them(wanted: set[int]) -> None:
    """Every set of indices has an expression that matches no other index."""
    expression = re.compile(numbers(wanted))
    assert {number for number in range(1000) if expression.fullmatch(str(number))} == wanted


@pytest.mark.parametrize(
    ("wanted", "expression"),
    [
        (range(8), "[0-7]"),
        (range(32), r"[12]?\d|3[01]"),
        (range(1, 48, 2), "[1-3]?[13579]|4[1357]"),
        ([3], "3"),
        ([3, 11], "3|11"),
        (range(100), r"[1-9]?\d"),
    ],
)
def test_expressions_for_numbers_are_compact(wanted: list[int], expression: str) -> None:
    """Ranges become character classes."""
    assert numbers(wanted) == expression


@pytest.mark.parametrize(
    ("words", "expression"),
    [
        (["q_proj"], "q_proj"),
        (["q_proj", "v_proj"], "[qv]_proj"),
        (["gate_proj", "up_proj"], "(gate|up)_proj"),
        (["fc1", "fc2"], "fc[12]"),
        (["mlp_q_in", "mlp_kv_in"], "mlp_(kv|q)_in"),
        (["query", "value"], "(query|value)"),
        (["a+b", "a"], r"(a|a\+b)"),
        (["1", "10", "2"], "[12]|10"),
    ],
)
def test_what_words_share_is_written_once(words: list[str], expression: str) -> None:
    """Common ends are cut at underscores, single letters become a class."""
    assert alternatives(words) in {expression, f"({expression})"}
    assert all(re.fullmatch(alternatives(words), word) for word in words)
