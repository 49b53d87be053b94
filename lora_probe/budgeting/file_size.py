"""The exact size of a safetensors file whose tensors grow with the rank, without writing it.

The layout is that of the safetensors format as its Rust crate writes it (``serialize`` in
safetensors/src/tensor.rs): eight bytes that hold the length of the header; the header, JSON without spaces,
padded with spaces to a multiple of eight; then the tensors, ordered by element type and name, with nothing
between them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from json.encoder import encode_basestring
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["DTYPES", "FileSize", "GrowingTensor"]

DTYPES = {
    "float64": ("F64", 8),
    "float32": ("F32", 4),
    "bfloat16": ("BF16", 2),
    "float16": ("F16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
}
"""Element types by torch's name: the name in a header and the bytes of one, in the order of a file."""

_METADATA = '"__metadata__":{"format":"pt"}'
"""What PEFT adds to the header (`save_pretrained` in peft/peft_model.py)."""
_LENGTH_FIELD = 8
_ALIGNMENT = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowingTensor:
    """One tensor of the file; its size may grow with a step number n in one of its dimensions."""

    name: str
    dtype: str
    """A key of `DTYPES`."""
    shape: tuple[tuple[int, int], ...]
    """(base, step) for each dimension, which is base + step x n long; at most one step is not 0."""

    @property
    def elements(self) -> tuple[int, int]:
        """The number of elements as (base, step)."""
        at_zero = prod(base for base, _ in self.shape)
        return at_zero, prod(base + step for base, step in self.shape) - at_zero


class FileSize:
    """Bytes of the file that holds some tensors, as a function of n; exact, and quick for many n.

    The only parts of the header that change with n are digits. A number has one digit and one more for each
    power of ten that it reaches; the offsets of the tensors are sorted whatever n is, so those that reach
    a power are found by bisection.
    """

    def __init__(self, tensors: Iterable[GrowingTensor]) -> None:
        order = {dtype: place for place, dtype in enumerate(DTYPES)}
        self._tensors = sorted(tensors, key=lambda each: (order[each.dtype], _utf8(each.name)))

    def __call__(self, n: int) -> int:
        """Return the bytes of the whole file at step `n`."""
        header = self._fixed_characters + self._dimension_digits(n) + self._offset_digits(n)
        padding = -header % _ALIGNMENT
        return _LENGTH_FIELD + header + padding + self._end(n, len(self._tensors) - 1)

    @cached_property
    def _fixed_characters(self) -> int:
        """Bytes of the header that are the same for each n."""
        entries = [
            len(_utf8(encode_basestring(each.name)))
            + len(f':{{"dtype":"{DTYPES[each.dtype][0]}","shape":[],"data_offsets":[,]}}')
            + max(len(each.shape) - 1, 0)
            + sum(len(str(base)) for base, step in each.shape if step == 0)
            for each in self._tensors
        ]
        return len("{}") + len(_METADATA) + sum(entries) + len(entries)  # one comma for each entry

    @cached_property
    def _growing_dimensions(self) -> Counter[tuple[int, int]]:
        return Counter(size for each in self._tensors for size in each.shape if size[1])

    @cached_property
    def _ends(self) -> tuple[Sequence[int], Sequence[int]]:
        """Bases and steps of the offsets at which the tensors end."""
        sizes = [[part * DTYPES[each.dtype][1] for part in each.elements] for each in self._tensors]
        return list(accumulate(base for base, _ in sizes)), list(accumulate(step for _, step in sizes))

    def _end(self, n: int, index: int) -> int:
        bases, steps = self._ends
        return bases[index] + n * steps[index] if self._tensors else 0

    def _dimension_digits(self, n: int) -> int:
        return sum(
            count * len(str(base + n * step)) for (base, step), count in self._growing_dimensions.items()
        )

    def _offset_digits(self, n: int) -> int:
        """Return the digits of all offsets: starts and ends, where a start is the end before it."""
        count = len(self._tensors)
        digits, power = 2 * count, 10
        while count and power <= self._end(n, count - 1):
            reached = count - bisect_left(range(count), power, key=lambda index: self._end(n, index))
            digits += 2 * reached - 1  # the last end is nobody's start
            power *= 10
        return digits


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
