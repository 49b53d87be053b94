"""Keep what runs inside transformers to itself: no chatter, no network, no pickle, no question on stdin."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["isolated", "quiet", "silent"]

_LIBRARIES = ("transformers", "huggingface_hub", "torch", "accelerate")


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Drop what libraries log or warn about while the block runs."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in libraries or _LIBRARIES:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
        yield


@contextmanager
def silent() -> Iterator[None]:
    """Drop what the block prints: code from a model's repository may say anything, stdout is for results."""
    with (
        open(os.devnull, "w", encoding="utf-8") as sink,  # noqa: PTH123 -- a device, not a file
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        yield


@contextmanager
def isolated(*, own_code: bool) -> Iterator[None]:
    """Run the block quietly, unable to unpickle; unless it is a model's `own_code`, without hub and prompts.

    A config may name other repositories or files that a model class then loads by itself; names and shapes of
    transformers' own classes never need them.
    """
    import torch
    import transformers.dynamic_module_utils
    from huggingface_hub import constants

    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(_replaced(torch, "load", _refuse_pickle))
        # Zero makes transformers refuse foreign code where it would otherwise ask on stdin.
        stack.enter_context(_replaced(transformers.dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0))
        if own_code:
            stack.enter_context(silent())
        else:
            stack.enter_context(_replaced(constants, "HF_HUB_OFFLINE", True))
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
