"""The LoRA paper's Table 5: which rank each set of attention weights gets in GPT-3 under one budget.

https://arxiv.org/abs/2106.09685, section 7.1. The budget that the paper rounds to 18M (35MB in FP16) is
18 x 2**20: what one matrix of each of 96 layers, 12288 wide, takes at r = 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lora_probe import budget
from tests.handmade import make_graph, make_site

if TYPE_CHECKING:
    from lora_probe import ModuleGraph

LAYERS, WIDTH = 96, 12_288


@pytest.fixture(scope="module")
def gpt3() -> ModuleGraph:
    """Return the attention of GPT-3 175B, with separate query, key, value and output weights."""
    return make_graph([
        make_site(f"h.{layer}.attn.{part}_proj", WIDTH, WIDTH, block="attention", part=part)
        for layer in range(LAYERS)
        for part in "qkvo"
    ])  # fmt: skip


def test_table_5_of_the_lora_paper(gpt3: ModuleGraph) -> None:
    """Under 18M parameters a single weight gets r = 8, a pair 4, all four 2, and nothing is left."""
    sets = ("q", "k", "v", "o", "qk", "qv", "qkvo")
    found = budget(gpt3, sets, max_parameters="18Mi")
    assert {row.targets: row.rank for row in found.rows} == dict(
        zip(sets, (8, 8, 8, 8, 4, 4, 2), strict=True)
    )
    assert {row.trainable_parameters for row in found.rows} == {18 * 2**20}
    assert {row.left_over for row in found.rows} == {0}


def test_the_paper_rounds_its_budget(gpt3: ModuleGraph) -> None:
    """Under 18,000,000 to the letter, no set of the table gets the paper's rank."""
    found = budget(gpt3, ("q", "qv", "qkvo"), max_parameters=18_000_000)
    assert [row.rank for row in found.rows] == [7, 3, 1]
