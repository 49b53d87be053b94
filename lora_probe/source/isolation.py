"""Keep what runs inside transformers to itself: no chatter, no network, no pickle, no question on stdin."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["isolated", "quiet"]

_LIBRARIES = ("transformers", "huggingface_hub", "torch", "accelerate", "timm")


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what libraries print, log or warn about while the block runs; a prompt finds no one to answer."""
    with ExitStack() as stack:
        sink = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        stack.enter_context(_replaced(sys, "stdin", io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _LIBRARIES:
            logger = logging.getLogger(name)
            # Handlers hold the real stderr since their import, so redirecting is not enough.
            stack.enter_context(_replaced(logger, "disabled", True))
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
        yield


@contextmanager
def isolated(*, network: bool) -> Iterator[None]:
    """Run the block quietly, unable to unpickle and, unless `network`, to reach the hub.

    A config may name other repositories or files that a model class then loads by itself; names and shapes
    never need them.
    """
    import huggingface_hub.constants
    import torch

    with quiet(), _replaced(torch, "load", _refuse_pickle):
        if network:
            yield
            return
        with _replaced(huggingface_hub.constants, "HF_HUB_OFFLINE", True):
            yield


def _refuse_pickle(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise RuntimeError("lora-probe loads no pickle")


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
