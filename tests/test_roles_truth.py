"""Roles against what the modeling code of transformers says, written down by hand."""

from __future__ import annotations

import pytest

from tests.census import graphs
from tests.role_truth import rows, truth

KNOWN = truth()
QUICK = ("bert", "clip", "jetmoe", "mixtral", "nemotron_h", "qwen2_vl", "rwkv", "t5", "wav2vec2-conformer")
"""One for each sort of trouble; the others take too long for every run."""


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(model_type, marks=() if model_type in QUICK else pytest.mark.census)
        for model_type in KNOWN
    ],
)
def test_every_weight_has_its_true_role(model_type: str) -> None:
    """Tower, block and part of every weight are those of the modeling code."""
    ((_, graph),) = graphs([model_type])
    assert rows(graph, known=KNOWN[model_type]) == KNOWN[model_type]


def test_truth_covers_the_families() -> None:
    """The file has enough model types, and the quick ones are among them."""
    assert len(KNOWN) >= 60
    assert {*QUICK} <= {*KNOWN}
