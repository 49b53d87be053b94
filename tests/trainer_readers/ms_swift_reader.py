"""Read exported arguments as ``swift sft`` does, and let it prepare the model's adapter."""

from __future__ import annotations

import shlex
from importlib import import_module
from typing import Any

from tests.trainer_readers.adapted import answer_cases, what_is_trained


def answer(case: dict[str, str]) -> dict[str, Any]:
    """Return what is trained after ms-swift has prepared the model in `folder` by the words of `text`."""
    from transformers import AutoModelForCausalLM

    words = shlex.split(case["text"].replace("\\\n", " "), comments=True)
    words += ["--model", case["folder"], "--model_type", case["model_type"], "--template", "dummy"]
    words += ["--dataset", "none", "--output_dir", f"{case['folder']}-output"]
    kind = import_module("swift.arguments").SftArguments
    arguments, unknown = import_module("swift.utils").parse_args(kind, words)
    model = AutoModelForCausalLM.from_pretrained(case["folder"])
    model.model_info, model.model_meta = arguments.model_info, arguments.model_meta
    mixin = import_module("swift.pipelines.train.tuner").TunerMixin
    return {**what_is_trained(mixin.prepare_model(arguments, model)), "unknown": unknown}


answer_cases(answer)
