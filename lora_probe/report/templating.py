"""What all pages share: the templates, and how text from a model gets into them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lora_probe.report.colors import block_color
from lora_probe.report.numbers import exact, file_size, short
from lora_probe.report.wording import flow, shown
from lora_probe.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from lora_probe.patterns import Pattern

__all__ = ["environment"]

_TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """Return the templates; whatever they are given is escaped unless it is markup of our own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "breakable": _breakable,
        "color": block_color,
        "exact": exact,
        "file_size": file_size,
        "flow": flow,
        "printable": printable,
        "short": short,
        "shown": shown,
    }
    return environment


def _breakable(name: Pattern | str) -> Markup:
    """Return a path that a browser may break after its dots."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in shown(str(name)).replace(".", ".\0").split("\0"))
