"""The size of a safetensors file, against the library that writes them."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lora_probe.budgeting.file_size import DTYPES, FileSize, GrowingTensor

DIMENSIONS = st.tuples(st.integers(1, 12), st.just(0))
GROWING = st.tuples(st.sampled_from([0, 0, 3]), st.sampled_from([1, 2, 16]))


@st.composite
def tensors(draw: st.DrawFn) -> list[GrowingTensor]:
    """Draw tensors of which some grow with n in one dimension."""
    names = draw(st.lists(st.text(max_size=30), unique=True, min_size=1, max_size=12))
    found = []
    for name in names:
        shape = draw(st.lists(DIMENSIONS, max_size=3))
        if draw(st.booleans()):
            shape.insert(draw(st.integers(0, len(shape))), draw(GROWING))
        found.append(
            GrowingTensor(name=name, dtype=draw(st.sampled_from(sorted(DTYPES))), shape=tuple(shape))
        )
    return found


def _written(stored: list[GrowingTensor], n: int) -> int:
    """Return the bytes that safetensors itself writes."""
    data = {
        each.name: torch.zeros(
            [base + n * step for base, step in each.shape], dtype=getattr(torch, each.dtype)
        )
        for each in stored
    }
    return len(save(data, metadata={"format": "pt"}))


@settings(max_examples=200)
@given(stored=tensors(), n=st.integers(1, 200))
def test_size_is_that_of_the_file_that_safetensors_writes(stored: list[GrowingTensor], n: int) -> None:
    """For any names, element types and shapes the size is what safetensors writes, byte for byte."""
    assert FileSize(stored)(n) == _written(stored, n)


def test_each_digit_counts() -> None:
    """Sizes agree at every step across powers of ten, where the header gets longer."""
    stored = [
        GrowingTensor(name=f"layers.{layer}.lora_{side}", dtype="float32", shape=shape)
        for layer in range(12)
        for side, shape in (("A", ((0, 1), (24, 0))), ("B", ((40, 0), (0, 1))))
    ]
    size = FileSize(stored)
    assert [size(n) for n in range(1, 130)] == [_written(stored, n) for n in range(1, 130)]
