"""Rows and settings on which tokens and labels are compared with TRL's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lora_probe.piloting.data import TrainOn
from tests.pilot_tokenizers import CHATML, MARKED, THINKING


@dataclass(frozen=True, kw_only=True)
class TrlCase:
    """One set of data under one set of settings."""

    name: str
    rows: tuple[dict[str, Any], ...]
    tokenizer: dict[str, Any] = field(default_factory=dict)
    """Arguments of `byte_tokenizer`."""
    train_on: TrainOn = TrainOn.AUTO
    max_length: int = 1024


def turn(role: str, content: str) -> dict[str, str]:
    """Return one message."""
    return {"role": role, "content": content}


TEXTS = (
    {"text": "the hen in the tin"},
    {"text": "it ends already<|end|>"},
    {"text": " the\n\nlot, löwe 🦁"},
    {"text": "a much longer text than the others, to be cut at a length in between"},
)
PROMPTS = (
    {"prompt": "hel", "completion": "lo there"},  # its last letter merges with the first of the completion
    {"prompt": "say it: ", "completion": "it is said<|end|>"},
    {"prompt": "", "completion": "from nothing"},
    {"prompt": "a prompt that fills all of the room that there is, and more", "completion": "lost"},
)
TALKS = (
    {
        "messages": [
            turn("user", "hello"),
            turn("assistant", "the inn"),
            turn("user", "no"),
            turn("assistant", "lo"),
        ]
    },
    {"messages": [turn("system", "be brief"), turn("user", "hm"), turn("assistant", "\nso")]},
)
REPLIES = (
    {"prompt": [turn("user", "hello")], "completion": [turn("assistant", "the inn")]},
    {
        "prompt": [turn("system", "be brief"), turn("user", "one"), turn("assistant", "two")],
        "completion": [turn("user", "three"), turn("assistant", "four")],
    },
)
SHARED = {"from": "user", "value": "hello"}, {"from": "assistant", "value": "the inn"}
TOOLS = (
    {
        "messages": [turn("user", "hello"), turn("assistant", "the inn")],
        "tools": [{"name": "find"}, {"name": "tell"}],
        "chat_template_kwargs": {"suffix": "!"},
    },
    {
        "messages": [turn("user", "hm"), turn("assistant", "in")],
        "tools": [{"name": "find"}],
        "chat_template_kwargs": {"suffix": "?"},
    },
)
_MARKED = {"bos": "<s>", "template": MARKED}
CASES = (
    TrlCase(name="text", rows=TEXTS),
    TrlCase(name="text_cut", rows=TEXTS, max_length=24),
    TrlCase(name="text_bos", rows=TEXTS, tokenizer={"bos": "<s>", "pad": "<pad>"}),
    TrlCase(name="prompts", rows=PROMPTS),
    TrlCase(name="prompts_bos", rows=PROMPTS, tokenizer={"bos": "<s>"}),
    TrlCase(name="prompts_cut", rows=PROMPTS, max_length=12),
    TrlCase(name="prompts_all", rows=PROMPTS, train_on=TrainOn.ALL),
    TrlCase(name="talks", rows=TALKS, tokenizer={"template": CHATML}),
    TrlCase(name="talks_assistant", rows=TALKS, tokenizer=_MARKED, train_on=TrainOn.ASSISTANT),
    TrlCase(
        name="talks_assistant_cut", rows=TALKS, tokenizer=_MARKED, train_on=TrainOn.ASSISTANT, max_length=20
    ),
    TrlCase(name="replies", rows=REPLIES, tokenizer={"template": CHATML}),
    TrlCase(name="replies_all", rows=REPLIES, tokenizer={"template": CHATML}, train_on=TrainOn.ALL),
    TrlCase(name="replies_thinking", rows=REPLIES, tokenizer={"template": THINKING}),
    TrlCase(name="replies_assistant", rows=REPLIES, tokenizer=_MARKED, train_on=TrainOn.ASSISTANT),
    TrlCase(name="conversations", rows=({"conversations": list(SHARED)},), tokenizer={"template": CHATML}),
    TrlCase(name="tools", rows=TOOLS, tokenizer=_MARKED),
    TrlCase(name="tools_assistant", rows=TOOLS, tokenizer=_MARKED, train_on=TrainOn.ASSISTANT),
)
