"""Target text: what is read, how it is written again, and where an error points."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_probe.errors import BadTargets, TargetSyntaxError
from lora_probe.roles.vocabulary import BLOCKS, PARTS, TOWERS
from lora_probe.targets import PRESETS, TargetSpec, parse_targets
from lora_probe.targets.spec import AllLinear, Expression, Layers, Name, Names, Role, Term


def _only(text: str) -> Term:
    (term,) = parse_targets(text).terms
    return term


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("attention", Role(block="attention")),
        ("mlp.down", Role(block="mlp", part="down")),
        ("vision:", Role(tower="vision")),
        ("vision:attention.q", Role(tower="vision", block="attention", part="q")),
        ("text:embedding.wpe", Role(tower="text", block="embedding", part="wpe")),
        ("all-linear", AllLinear()),
        ("All-Linear", AllLinear()),
        ("q_proj", Names(names=("q_proj",))),
        ("q_proj, v_proj,q_proj", Names(names=("q_proj", "v_proj"))),
        ("q,v", Names(names=("q", "v"))),
        ("mlp.c_proj", Names(names=("mlp.c_proj",))),
        ("name:q_proj", Name(text="q_proj")),
        ("name:odd-name", Name(text="odd-name")),
        ('name:"a b+c"', Name(text="a b+c")),
        (r"re:.*\.(q|v)_proj", Expression(pattern=r".*\.(q|v)_proj")),
        (r"re:[a-z]+-x{1,2}", Expression(pattern=r"[a-z]+-x{1,2}")),
        ('re:"say ""a"" @ x"', Expression(pattern='say "a" @ x')),
    ],
)
def test_a_selector_is_read(text: str, selector: object) -> None:
    """Roles, names, lists, expressions and PEFT's shorthand each become their own record."""
    assert _only(text).selector == selector


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("mlp@0-7", Layers(ranges=((0, 7),))),
        ("mlp@5,0,3,4", Layers(ranges=((0, 0), (3, 5)))),
        ("mlp@last:8", Layers(last=8)),
        ("mlp@first:4,20-23", Layers(ranges=((20, 23),), first=4)),
        ("mlp@odd", Layers(parity=frozenset({1}))),
        ("q_proj,v_proj@even", Layers(parity=frozenset({0}))),
        ("(mlp+attention)@last:1", Layers(last=1)),
        (r"re:.*q_proj@3", Layers(ranges=((3, 3),))),
    ],
)
def test_layers_are_read(text: str, layers: Layers) -> None:
    """Layers follow any selector, a list or brackets, and touching ranges become one."""
    assert _only(text).layers == layers


def test_terms_add_and_remove_from_left_to_right() -> None:
    """A minus removes; within a name or an expression it is a character."""
    spec = parse_targets(r"all-linear - mlp.down@0-3 + name:a-b-attention + re:a-b")
    assert [str(term) for term in spec.terms] == [
        "all-linear", "mlp.down@0-3", 'name:"a-b-attention"', 're:"a-b"',
    ]  # fmt: skip
    assert [term.removes for term in spec.terms] == [False, True, False, False]


def test_layers_end_before_a_minus() -> None:
    """After layers, a minus that no number follows removes."""
    assert str(parse_targets("attention@0-7-mlp")) == "attention@0-7 - mlp"
    assert [term.removes for term in parse_targets("attention@0-7-mlp").terms] == [False, True]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("qv", "attention.q+attention.v"),
        ("v + o + down", "attention.v+attention.o+mlp.down"),
        ("qkvo@last:2", "(attention.q+attention.k+attention.v+attention.o)@last:2"),
        ("(mlp)+(attention-attention.o)", "mlp+(attention - attention.o)"),
        ("((mlp-mlp.up))-(experts+router)", "mlp - mlp.up - (experts+router)"),
        ("+mlp", "mlp"),
        ("mlp@1,2,3,odd", "mlp@1-3,odd"),
    ],
)
def test_the_canonical_text_spells_presets_out_and_drops_idle_brackets(text: str, canonical: str) -> None:
    """Presets are names for texts, and brackets stay only where they change the meaning."""
    assert str(parse_targets(text)) == canonical


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_text_that_can_be_read(name: str) -> None:
    """A preset and its text are the same specification."""
    assert parse_targets(name) == parse_targets(PRESETS[name])


@pytest.mark.parametrize(
    ("text", "character", "expected"),
    [
        ("", 1, "a role, a name"),
        ("   ", 4, "a role, a name"),
        ("mlp+", 5, "a role, a name"),
        ("mlp mlp", 5, "+ or -"),
        ("-mlp", 1, "a role, a name"),
        ("@0-3", 1, "a role, a name"),
        ("mlp@", 4, "layers after @"),
        ("mlp@x", 5, "layers such as"),
        ("mlp@7-3", 5, "the lower layer first: 3-7"),
        ("mlp@0-3,last:0", 9, "at least one layer"),
        ("mlp@0,3,x", 8, "+ or -"),
        ("vission:mlp", 1, "close: vision"),
        ("vision:atention.q", 8, "close: attention"),
        ("q_proj,vision:mlp", 8, "join roles with +"),
        ("q_proj,", 8, "a name after the comma"),
        ("(mlp", 5, "the closing bracket"),
        ("mlp)", 4, "+ or -"),
        ("name:", 1, "a name after name:"),
        ("re:", 1, "a regular expression after re:"),
        ('mlp+"x"', 5, "a quoted text only after"),
        ("q_proj*", 7, "a role, a name or a sign: a regular expression starts with re:"),
        ("['q_proj']", 1, "names are joined by commas, without brackets or quotes"),
        ("re:(", 4, "a regular expression (missing )"),
        ("mlp+re:a*b(", 11, "a regular expression (missing )"),
        ('mlp+re:"a""[" + mlp', 12, "a regular expression (unterminated character set)"),
        ("re:a{999999999999}", 4, "a regular expression (the repetition number is too large)"),
        ("mlp@\u0663", 5, "layers such as 0-7"),
        ("texts:mlp", 1, "close: text"),
        ("xyz:mlp", 1, "one of "),
        ("text:xyz", 6, "one of "),
        ("(" * 30 + "mlp" + ")" * 30, 21, "no more than 20 brackets"),
    ],
)
def test_an_error_points_at_the_character(text: str, character: int, expected: str) -> None:
    """The message says what was expected, and a caret stands under the first character that is wrong."""
    with pytest.raises(TargetSyntaxError) as caught:
        parse_targets(text)
    assert caught.value.position == character - 1
    assert expected in str(caught.value)
    *_, shown, pointer = str(caught.value).splitlines()
    assert shown == f"  {text}"
    assert pointer.index("^") == character + 1


def test_the_caret_stands_under_wide_characters_too() -> None:
    """Characters of two columns, and those of none, are counted as a terminal draws them."""
    for text, column in (("\u65e5\u672c+?", 5), ("re:e\u0301(", 4)):
        with pytest.raises(TargetSyntaxError) as caught:
            parse_targets(text)
        assert str(caught.value).splitlines()[-1].index("^") == 2 + column


@pytest.mark.parametrize("text", ["x" * 10**6 + "?", "?" + "x" * 10**6, "mlp+" * 10**5, "(" * 10**6])
def test_a_huge_text_ends_in_a_short_message(text: str) -> None:
    """Only what stands around the fault is shown, with the caret under it."""
    with pytest.raises(TargetSyntaxError) as caught:
        parse_targets(text)
    *_, shown, pointer = str(caught.value).splitlines()
    assert len(str(caught.value)) < 1000
    assert shown[pointer.index("^")] == text[caught.value.position]


@pytest.mark.parametrize("wrong", [3, None, b"q_proj", ["q_proj", 3], ["q_proj", ""], [None]])
def test_what_is_no_text_and_no_list_of_names_is_an_error(wrong: Any) -> None:
    """A number out of a file, or a name that is none, is a sentence and no traceback."""
    with pytest.raises(BadTargets, match=r"is no name|is neither a text nor a list"):
        parse_targets(wrong)


def test_control_characters_are_shown_escaped_with_the_caret_in_place() -> None:
    """A hostile text neither reaches the terminal nor moves the caret."""
    with pytest.raises(TargetSyntaxError) as caught:
        parse_targets("mlp+\x1b[31m")
    shown, pointer = str(caught.value).splitlines()[1:]
    assert "\x1b" not in str(caught.value)
    assert pointer.index("^") == shown.index("\\x1b")


def test_a_list_of_names_is_what_peft_takes() -> None:
    """Python may pass the list itself; one name or none of it is no text to parse."""
    assert parse_targets(["q_proj", "v_proj"]) == parse_targets("q_proj,v_proj")
    with pytest.raises(TargetSyntaxError):
        parse_targets([])


@pytest.mark.parametrize(
    ("text", "verbatim"),
    [
        ("q_proj,v_proj", {"target_modules": ("q_proj", "v_proj")}),
        ("re:.*q", {"target_modules": ".*q"}),
        ("all-linear", {"target_modules": "all-linear"}),
        ("q_proj@0", None),
        ("attention", None),
        ("q_proj+v_proj", None),
    ],
)
def test_what_peft_understands_itself_is_known(text: str, verbatim: object) -> None:
    """A list, an expression or the shorthand alone can be handed to PEFT as it stands."""
    assert parse_targets(text).verbatim == verbatim


_WORDS = st.from_regex(r"[a-z_0-9]+(\.[a-z_0-9]+)*", fullmatch=True)
_ROLES = st.builds(
    Role,
    tower=st.none() | st.sampled_from(sorted(TOWERS)),
    block=st.sampled_from(sorted(PARTS)),
) | st.sampled_from(sorted(BLOCKS)).flatmap(
    lambda block: st.builds(
        Role, block=st.just(block), part=st.none() | st.sampled_from([*PARTS.get(block, {None: ""})])
    )
)
_SELECTORS = (
    _ROLES
    | st.builds(Role, tower=st.sampled_from(sorted(TOWERS)))
    | st.builds(Name, text=st.text(min_size=1))
    | st.builds(Expression, pattern=st.text(min_size=1).map(re.escape))
    | st.builds(Names, names=st.lists(_WORDS, min_size=2, max_size=4, unique=True).map(tuple))
    | st.just(AllLinear())
)
_LAYERS = st.builds(
    Layers,
    ranges=st.sampled_from([(), ((0, 0),), ((2, 5), (9, 9))]),
    first=st.integers(0, 5),
    last=st.integers(1, 5),
    parity=st.frozensets(st.integers(0, 1)),
)
_TERMS = st.builds(Term, selector=_SELECTORS, layers=st.none() | _LAYERS, removes=st.booleans())


@given(st.lists(_TERMS, min_size=1, max_size=4))
def test_the_canonical_text_parses_back_equal(terms: list[Term]) -> None:
    """What is written is read again as the same specification, and written the same once more."""
    first = Term(selector=terms[0].selector, layers=terms[0].layers)
    spec = TargetSpec(terms=(first, *terms[1:]))
    again = parse_targets(str(spec))
    assert again == spec
    assert str(again) == str(spec)


@given(
    st.text(alphabet=st.sampled_from('qv_.:+-,@()"0 37mlpattention\\x1bre:name'), max_size=30)
    | st.text(max_size=20)
)
def test_any_text_is_a_specification_or_a_clear_error(text: str) -> None:
    """Nothing but the one error comes out, and what is read is written and read again."""
    try:
        spec = parse_targets(text)
    except TargetSyntaxError as error:
        spec, position = None, error.position
    assert parse_targets(str(spec)) == spec if spec else 0 <= position <= len(text)
