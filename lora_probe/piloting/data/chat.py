"""Conversations through the tokenizer's chat template, and which of their tokens the assistant speaks."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from lora_probe.piloting.errors import BadExample, UnfitTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lora_probe.piloting.data.contents import Content

__all__ = ["assistant_mask", "conversation_ids", "require_template"]

_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_LONGEST_REASON = 160


def require_template(tokenizer: Any) -> None:
    """Refuse a tokenizer without a chat template.

    Raises:
        UnfitTokenizer: it has none.

    """
    if not getattr(tokenizer, "chat_template", None):
        raise UnfitTokenizer(
            problem="has no chat template, and the data holds conversations",
            advice="take the model's instruct variant, or data of text, or of prompt and completion as texts",
        )


def conversation_ids(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], content: Content, *, reply_follows: bool = False
) -> list[int]:
    """Return the tokens of a conversation; with `reply_follows` also those that begin the assistant's turn.

    Raises:
        BadExample: the template refuses the conversation.

    """
    return list(_apply(tokenizer, messages, content, add_generation_prompt=reply_follows)["input_ids"])


def assistant_mask(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], content: Content
) -> tuple[list[int], list[bool]]:
    """Return the tokens of a conversation, and for each whether the assistant speaks it.

    Where the template marks turns with ``{% generation %}``, its marks are followed. Otherwise a turn is what
    the template adds between the request for a reply and the end of that reply, which needs a template that
    renders the beginning of a conversation alike whatever follows.

    Raises:
        BadExample: the template refuses the conversation, or renders no word of the assistant's turns.
        UnfitTokenizer: the template allows neither way.

    """
    if not any(message["role"] == "assistant" for message in messages):
        ids = conversation_ids(tokenizer, messages, content)
        return ids, [False] * len(ids)
    if _MARKERS.search(str(tokenizer.get_chat_template(tools=_tools(content)))):
        made = _apply(tokenizer, messages, content, return_assistant_tokens_mask=True)
        ids, mask = list(made["input_ids"]), [bool(each) for each in made["assistant_masks"]]
    else:
        ids, mask = _between_turns(tokenizer, messages, content)
    if not any(mask):
        raise BadExample(
            where=content.place, problem="the chat template renders nothing that the assistant says"
        )
    return ids, mask


def _between_turns(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], content: Content
) -> tuple[list[int], list[bool]]:
    if not getattr(tokenizer, "is_fast", False):
        raise UnfitTokenizer(
            problem="cannot tell which characters a token covers",
            advice="train on all tokens instead of the assistant's",
        )
    whole = _apply(tokenizer, messages, content, tokenize=False)
    made = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    mask = [False] * len(made["input_ids"])
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = ""
        if turn:
            asked = _apply(tokenizer, messages[:turn], content, tokenize=False, add_generation_prompt=True)
        told = _apply(tokenizer, messages[: turn + 1], content, tokenize=False)
        if turn + 1 < len(messages):
            # Some templates close every conversation; what follows this turn then replaces the closing.
            told = told.removesuffix(tokenizer.eos_token or "")
        if not (whole.startswith(told) and told.startswith(asked)):
            raise UnfitTokenizer(
                problem="has a chat template that marks no turns with {% generation %} and renders a turn "
                "differently once others follow",
                advice="add the marks to the template, or train on all tokens",
            )
        for token, (start, stop) in enumerate(made["offset_mapping"]):
            mask[token] = mask[token] or (start < len(told) and stop > len(asked))
    return list(made["input_ids"]), mask


def _apply(tokenizer: Any, messages: Sequence[Mapping[str, Any]], content: Content, **how: Any) -> Any:
    how = {"tokenize": True, **how}
    if how["tokenize"]:
        how["return_dict"] = True
    try:
        return tokenizer.apply_chat_template(
            [dict(message) for message in messages], tools=_tools(content), **how, **_extras(content)
        )
    except Exception as error:  # noqa: BLE001 - a template is a program that may raise what it likes
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        problem = f"the tokenizer's chat template refuses it ({reason or type(error).__name__})"
        raise BadExample(where=content.place, problem=problem) from None


def _tools(content: Content) -> Any:
    """Return the tools of a row, which may be a list or JSON; templates tell none from an empty list."""
    tools = content.cells.get("tools")
    if not isinstance(tools, str):
        return tools or None
    try:
        return json.loads(tools) or None
    except ValueError:
        raise BadExample(where=content.place, problem="its tools are a text that is no JSON") from None


def _extras(content: Content) -> dict[str, Any]:
    extras = content.cells.get("chat_template_kwargs") or {}
    if not isinstance(extras, dict):
        raise BadExample(where=content.place, problem="its chat_template_kwargs are no object")
    return extras
