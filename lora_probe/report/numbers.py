"""Numbers as people read them; the only place where anything is rounded."""

from __future__ import annotations

__all__ = ["exact", "file_size", "percent", "short"]

_UNITS = ("", "K", "M", "B", "T")
_STEP = 1000


def exact(count: int) -> str:
    """Return every digit of `count`, in groups of three."""
    return f"{count:,}"


def short(count: int) -> str:
    """Return `count` to three significant digits with a unit: ``537M``, ``8.03B``; below 1000 exactly."""
    if count < _STEP:
        return str(count)
    mantissa, _, exponent = f"{count:.2e}".partition("e")  # rounds once, and 999,999 into the next unit
    unit = min(int(exponent) // 3, len(_UNITS) - 1)
    power = int(exponent) - 3 * unit
    return f"{float(mantissa) * 10**power:.{max(0, 2 - power)}f}{_UNITS[unit]}"


def file_size(size: int) -> str:
    """Return `size` bytes to three significant digits in decimal units: ``13.6 MB``, ``1.05 GB``."""
    if size < _STEP:
        return f"{size} B"
    text = short(size).replace("B", "G")
    return f"{text[:-1]} {text[-1].replace('K', 'k')}B"


def percent(part: int, whole: int, *, digits: int = 1) -> str:
    """Return `part` of `whole` in percent; only nothing is shown as 0% and only everything as 100%."""
    if whole == 0 or part == 0:
        return "0%"
    smallest = 10**-digits
    value = 100 * part / whole
    if value < smallest:
        return f"<{smallest:.{digits}f}%"
    if part < whole and value > 100 - smallest:
        return f">{100 - smallest:.{digits}f}%"
    return f"{value:.{digits}f}%"
