"""Text that came from a model, a config or a file, made safe to show."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


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
