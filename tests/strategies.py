"""Hypothesis strategies for the records of the package."""

from __future__ import annotations

from hypothesis import strategies as st

from lora_probe import Adaptable, Kind, Module, ModuleGraph, Note, Site, Uncovered

NAMES = st.text(min_size=1, max_size=12)
PATHS = st.lists(
    st.text(st.characters(exclude_characters="."), min_size=1, max_size=8), min_size=1, max_size=5
).map(".".join)
COUNTS = st.integers(min_value=0, max_value=10**13)

SITES = st.builds(
    Site,
    path=PATHS,
    kind=st.sampled_from(Kind),
    in_features=COUNTS,
    out_features=COUNTS,
    experts=st.integers(min_value=1, max_value=512),
    tower=NAMES,
    block=NAMES,
    part=NAMES,
    layer=st.none() | st.integers(min_value=0, max_value=200),
    parameter=PATHS,
    tied_to=st.none() | PATHS,
    parameters=COUNTS,
    bias_parameters=COUNTS,
    groups=st.integers(min_value=1, max_value=8),
    shape=st.lists(COUNTS, max_size=4).map(tuple),
    transposed=st.booleans(),
    bias=st.none() | PATHS,
    module_class=NAMES,
    dtype=st.none() | st.sampled_from(["bfloat16", "float32"]),
    weight_bytes=st.none() | COUNTS,
    adaptable=st.none() | st.sampled_from(Adaptable),
)
GRAPHS = st.builds(
    ModuleGraph,
    model=NAMES,
    source=NAMES,
    architecture=NAMES,
    model_type=NAMES,
    total_parameters=COUNTS,
    sites=st.lists(SITES, max_size=4).map(tuple),
    uncovered=st.lists(
        st.builds(
            Uncovered,
            parameter=PATHS,
            shape=st.lists(COUNTS, max_size=4).map(tuple),
            parameters=COUNTS,
            tied_to=st.none() | PATHS,
        ),
        max_size=3,
    ).map(tuple),
    modules=st.lists(st.builds(Module, path=PATHS, class_name=NAMES), max_size=3).map(tuple),
    input_embedding=st.none() | PATHS,
    output_embedding=st.none() | PATHS,
    tie_word_embeddings=st.booleans(),
    tied_modules=st.none() | st.lists(PATHS, max_size=2).map(tuple),
    dtype=st.none() | NAMES,
    quantization=st.none() | NAMES,
    revision=st.none() | NAMES,
    versions=st.dictionaries(NAMES, NAMES, max_size=3),
    notes=st.lists(st.builds(Note, code=NAMES, message=NAMES), max_size=2).map(tuple),
)
