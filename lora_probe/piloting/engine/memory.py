"""Whatever way a device says that it is out of memory, it becomes one error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from lora_probe.piloting.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["memory_guard"]

_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""How torch's allocators for the CPU and for MPS say it: a RuntimeError that only its text tells apart."""


@contextmanager
def memory_guard(trials: int, device: torch.device | str) -> Iterator[None]:
    """Turn running out of memory into OutOfMemory, which says how many trials were too many."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        _give_back()
        raise OutOfMemory(trials=trials, device=str(device)) from error
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _WORDS):
            raise
        _give_back()
        raise OutOfMemory(trials=trials, device=str(device)) from error


def _give_back() -> None:
    """Return cached blocks, so that a smaller wave finds the memory whole."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
