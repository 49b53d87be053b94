"""Text that came from a model, a config or a file, made safe to show."""

from __future__ import annotations

import unicodedata

__all__ = ["columns", "printable"]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_COMBINING = frozenset({"Mn", "Me"})
_WIDE = frozenset({"W", "F"})


def printable(text: str, *, limit: int | None = None) -> str:
    r"""Return `text` with every control, format or unassigned character written as an escape.

    A terminal obeys escape sequences and right-to-left marks that a hostile name may carry, so nothing that a
    model or a file names is shown without this. Longer than `limit` characters, the middle is left out.
    """
    if limit is not None and len(text) > limit:
        keep = max(limit - 1, 2)
        text = f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}"
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _HIDDEN else char
        for char in text
    )


def columns(text: str) -> int:
    """Return the columns of a terminal that `text` takes: wide characters two, combining ones none."""
    return sum(_width(char) for char in text)


def _width(char: str) -> int:
    if unicodedata.category(char) in _COMBINING:
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1
