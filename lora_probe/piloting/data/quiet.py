"""The `datasets` library, without its progress bars and log lines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quiet_datasets"]


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Keep the library's bars and messages off the terminal: what went wrong is said once, by an error."""
    import datasets
    from datasets.utils import logging

    level, bars = logging.get_verbosity(), datasets.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
