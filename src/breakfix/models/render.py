"""The only place where conversations become tokens. Training and inference both go through here, so that they agree.

`prompt_ids` is what the model sees before it speaks; `completion_ids` is what it is trained to say, turn end included.
A conversation that ends with an assistant turn is a prefill: it is rendered open, and the model continues it.
"""
# pyright: basic
# (transformers' tokenizers are half untyped)

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import Conversation
from ..errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Rendered(NamedTuple):
    """A training row: `prompt` carries no loss, `completion` all of it. Token ids; the sequence is their sum."""

    prompt: list[int]
    completion: list[int]


def as_dicts(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in conversation]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[int]:
    """Token ids up to where the assistant speaks (or goes on speaking, for a prefill)."""
    if not conversation:
        raise DataError("a conversation has no turns; expected at least one user turn")
    prefill = conversation[-1].role == "assistant"
    return _render(tokenizer, conversation, add_generation_prompt=not prefill, continue_final_message=prefill)


def whole_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[int]:
    """Token ids of a finished conversation, put to a model that answers about it (a guard): no turn is left open."""
    if not conversation:
        raise DataError("a conversation has no turns; expected at least one user turn")
    return _render(tokenizer, conversation, add_generation_prompt=True, continue_final_message=False)


def turn_end(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the template writes after an assistant turn: the end-of-turn token and perhaps white space."""
    probe: Conversation = (*_probe("user"), *_probe("assistant"))
    opened = _render(tokenizer, probe, add_generation_prompt=False, continue_final_message=True)
    closed = _render(tokenizer, probe, add_generation_prompt=False, continue_final_message=False)
    if closed[: len(opened)] != opened or len(closed) == len(opened):
        raise DataError("the chat template does not close an assistant turn; a model trained on it would never stop")
    return closed[len(opened) :]


def training_row(tokenizer: PreTrainedTokenizerBase, prompt: Conversation, reply: str) -> Rendered:
    """Tokens of (prompt, reply). The prompt's are those of inference; the reply is closed as the template does."""
    reply_ids = tokenizer(reply, add_special_tokens=False)["input_ids"]
    return Rendered(prompt_ids(tokenizer, prompt), [*reply_ids, *turn_end(tokenizer)])


def closed_ids(tokenizer: PreTrainedTokenizerBase, prompt: Conversation, reply: str) -> list[int]:
    """Token ids of the conversation with the reply in it, closed, as the template itself writes it."""
    from ..core import Message

    before = prompt
    if prompt and prompt[-1].role == "assistant":  # a prefill, and what was added to it, are one turn
        before, reply = prompt[:-1], prompt[-1].content + reply
    whole = (*before, Message("assistant", reply))
    return _render(tokenizer, whole, add_generation_prompt=False, continue_final_message=False)


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None, *, turn: bool = True) -> set[int]:
    """Tokens that end a turn: the tokenizer's, the generation config's, and the template's own first closing token.

    `turn` False: without the latter. A guard's template may need more than turns, and then has none.
    """
    from jinja2 import TemplateError

    stops: set[int] = set()
    values: tuple[Any, Any] = (tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None))
    for value in values:
        stops.update(value if isinstance(value, list) else [] if value is None else [value])
    if tokenizer.chat_template and turn:
        with suppress(TemplateError):
            stops.update(turn_end(tokenizer)[:1])
    return stops


def _probe(role: str) -> Conversation:
    from ..core import Message

    return (Message("user" if role == "user" else "assistant", "x"),)


def _render(tokenizer: Any, conversation: Conversation, **how: bool) -> list[int]:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        text = "".join(f"{m.role}: {m.content}\n" for m in conversation)
        text = (
            text[:-1]
            if how["continue_final_message"]
            else text + ("assistant:" if how["add_generation_prompt"] else "")
        )
        return list(tokenizer(text, add_special_tokens=True)["input_ids"])
    # models that may think first (Qwen3, SmolLM3) answer at once: what is judged is a reply of some 40 tokens
    how = {**how, "enable_thinking": False, "tokenize": True, "return_dict": False}
    turns = as_dicts(conversation)
    try:
        return list(tokenizer.apply_chat_template(turns, **how))
    except TemplateError:
        if len(turns) < 2 or turns[0]["role"] != "system":
            raise
    first = {"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
    return list(tokenizer.apply_chat_template([first, *turns[2:]], **how))  # Gemma 2 and others know no system turn
