"""Run exported calls with Unsloth, in a process of its own, for it patches transformers and PEFT."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.trainer_readers.adapted import answer_cases, what_is_trained


def answer(case: dict[str, str]) -> dict[str, Any]:
    """Return what is trained after the statements of `text` for the model in `folder`."""
    unsloth = import_module("unsloth")
    loaders = {name: getattr(unsloth, name) for name in ("FastLanguageModel", "FastVisionModel")}
    (loader,) = (each for name, each in loaders.items() if f"unsloth.{name}." in case["text"])
    model, _ = loader.from_pretrained(case["folder"], load_in_4bit=False)
    names = {**loaders, "model": model}
    exec(case["text"], names)  # noqa: S102 what is exported is a statement
    return what_is_trained(names["model"])


answer_cases(answer)
