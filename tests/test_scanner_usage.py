"""Reading from a module's code how it multiplies by a parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lora_probe.scanner.usage import is_read_by, layout_in_source
from lora_probe.scanner.weights import IN_OUT, OUT_IN, Layout


class Uses(nn.Module):
    """Multiplies by parameters in every form that is understood; never run."""

    linear: Any
    keyword: Any
    right: Any
    left: Any
    turned: Any
    batched: Any
    added: Any
    method: Any
    named: Any
    heads: Any
    indexed: Any
    scaled: Any
    by_head: Any

    def forward(self, x: torch.Tensor, index: int) -> Any:
        """Use each parameter once."""
        yield functional.linear(x, self.linear.float())
        yield functional.linear(x, weight=self.keyword)
        yield x @ self.right
        yield self.left[:, None] @ x
        yield torch.mm(x, self.turned.t())
        yield torch.bmm(x, self.batched.transpose(1, 2))
        yield torch.baddbmm(self.scaled, x, self.added)
        yield x.matmul(self.method.to(x.dtype))
        weight = self.named[index]
        yield functional.linear(x, weight.T)
        yield torch.einsum("bi,ihd->bhd", x, self.heads)
        yield torch.einsum("eb,ebi,eio->ebo", x, x, self.indexed)
        yield x * self.scaled
        yield torch.einsum("bnh,dnh->bnd", x, self.by_head)
        yield torch.einsum("bd,dnh->bnh", x, self.by_head)

    def unread(self, x: torch.Tensor) -> torch.Tensor:
        """Touch no parameter."""
        return x


ACROSS = Layout(inputs=(-3,), outputs=(-2, -1))


@pytest.mark.parametrize(
    ("parameter", "layout"),
    [
        ("linear", OUT_IN),
        ("keyword", OUT_IN),
        ("right", IN_OUT),
        ("left", OUT_IN),
        ("turned", OUT_IN),
        ("batched", OUT_IN),
        ("added", IN_OUT),
        ("method", IN_OUT),
        ("named", IN_OUT),
        ("heads", ACROSS),
        ("indexed", IN_OUT),
        ("scaled", None),
        ("by_head", ACROSS),
        ("missing", None),
    ],
)
def test_each_form_of_product_tells_the_layout(parameter: str, layout: Layout | None) -> None:
    """Products, casts, transpositions, slices, names and einsum are read; other uses are no product."""
    assert layout_in_source(Uses, parameter) == layout


def test_layouts_give_sides() -> None:
    """Dimensions that a product neither sums over nor leaves are experts."""
    assert OUT_IN.sizes((5, 3)) == (3, 5, 1)
    assert IN_OUT.sizes((4, 3, 5)) == (3, 5, 4)
    assert ACROSS.sizes((6, 2, 5)) == (6, 10, 1)


def test_who_reads_a_parameter() -> None:
    """Parameters that a module's own methods mention are read by it."""
    assert is_read_by(Uses, "scaled")
    assert not is_read_by(Uses, "missing")


def test_code_without_source_says_nothing() -> None:
    """Classes made while the program runs have no source to read, which is no error."""
    made: dict[str, Any] = {"__name__": "made"}
    exec("class Made:\n    def forward(self, x):\n        return x @ self.w", made)  # noqa: S102
    assert layout_in_source(made["Made"], "w") is None
    assert is_read_by(made["Made"], "w")
