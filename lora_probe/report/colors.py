"""One colour a block, the same in every plot and page."""

from __future__ import annotations

__all__ = ["REST", "block_color", "set_color"]

REST = "#888888"
"""For what has no colour of its own."""
_BLOCKS = {
    "attention": "#4477aa",
    "cross_attention": "#66ccee",
    "mlp": "#ee8866",
    "experts": "#ee6677",
    "shared_experts": "#aa3377",
    "router": "#882255",
    "ssm": "#228833",
    "recurrent": "#117733",
    "conv": "#999933",
    "downsample": "#ddaa33",
    "embedding": "#ccbb44",
    "head": "#aaaa66",
    "pooler": "#aaaa00",
    "connector": "#44bb99",
    "modulation": "#88ccee",
    "residual": "#99ddff",
    "adapter": "#cc6677",
    "codebook": "#bbcc33",
}
"""From Paul Tol's colour schemes, which colour-blind readers can tell apart on light and dark ground."""


def block_color(block: str) -> str:
    """Return the colour of `block` as ``#rrggbb``."""
    return _BLOCKS.get(block, REST)


def set_color(place: int) -> str:
    """Return the colour of the target set at `place` in a plot; after the last one they come again."""
    return _SETS[place % len(_SETS)]


_SETS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99")
"""From the same schemes, far apart from each other."""
