"""A chat request turned into what the engine generates and how its answer is read. Pure; called by api.chat.

Where the request is silent: sampling as in the model's generation_config.json, else temperature 1 as OpenAI's; a random
seed; as many tokens as the context has left.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from mlxctl.api.answer import AnswerFormat
from mlxctl.api.messages import template_messages
from mlxctl.api.schema import ChatRequest
from mlxctl.errors import ContextLengthExceeded, RequestError
from mlxctl.request import GenerationRequest, Sampling
from mlxctl.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Order:
    """One answer to be made."""

    generation: GenerationRequest
    answer_format: AnswerFormat


def prepare(chat: ChatRequest, tokenizer: Tokenizer, context: int) -> Order:
    """The order for `chat` on a model with `context` tokens. Raises RequestError, ContextLengthExceeded."""
    tools = () if chat.tool_choice == "none" else tuple(tool.for_template() for tool in chat.tools or ())
    if tools and not tokenizer.has_tools:
        raise RequestError("this model cannot call tools", param="tools", code="unsupported_parameter")
    prompt = tokenizer.render(
        template_messages(chat.messages),
        tools=tools or None,
        template_kwargs=chat.chat_template_kwargs,
        context=context,
    )
    if not prompt.ids:
        raise RequestError("the messages are empty once they are through the chat template", param="messages")
    generation = GenerationRequest(
        prompt=prompt.ids,
        max_tokens=_max_tokens(chat, len(prompt.ids), context),
        sampling=_sampling(chat, tokenizer.sampling),
        stop_ids=tokenizer.stop_ids,
    )
    return Order(generation, AnswerFormat(prompt.state, tuple(chat.stop or ()), tools))


def _max_tokens(chat: ChatRequest, prompt_tokens: int, context: int) -> int:
    asked = chat.max_tokens if chat.max_tokens is not None else chat.max_completion_tokens
    if asked is not None and prompt_tokens < context < prompt_tokens + asked:
        raise ContextLengthExceeded(
            f"this model's context is {context} tokens, but the request needs {prompt_tokens + asked}: "
            f"{prompt_tokens} in the messages and {asked} for the answer",
            param="max_completion_tokens" if chat.max_tokens is None else "max_tokens",
        )
    if prompt_tokens >= context:
        raise ContextLengthExceeded(
            f"this model's context is {context} tokens, but the messages are {prompt_tokens} tokens long "
            "and leave no room for an answer",
            param="messages",
        )
    return asked if asked is not None else context - prompt_tokens


def _sampling(chat: ChatRequest, default: Sampling) -> Sampling:
    temperature = default.temperature if chat.temperature is None else chat.temperature
    top_p = default.top_p if chat.top_p is None else chat.top_p
    return Sampling(
        # A nucleus of nothing holds the best token alone.
        temperature=0.0 if top_p == 0 else temperature,
        top_k=default.top_k if chat.top_k is None else chat.top_k,
        top_p=1.0 if top_p == 0 else top_p,
        min_p=default.min_p if chat.min_p is None else chat.min_p,
        seed=secrets.randbits(63) if chat.seed is None else chat.seed % 2**64,
    )
