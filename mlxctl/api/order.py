"""A chat request turned into what the engine generates and how its answer is read. Pure; called by api.chat.

Where the request is silent: sampling as in the model's generation_config.json, else temperature 1 as OpenAI's; a random
seed; as many tokens as the context has left.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TypeVar

from mlxctl.api.answer import AnswerFormat
from mlxctl.api.messages import template_messages
from mlxctl.api.schema import ChatRequest
from mlxctl.errors import ContextLengthExceeded, RequestError
from mlxctl.request import GenerationRequest, Sampling
from mlxctl.tokenizer import Tokenizer

T = TypeVar("T")


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
        sampling=_sampling(chat, tokenizer),
        stop_ids=tokenizer.stop_ids,
        timeout_s=chat.timeout,
        priority=chat.priority or "interactive",
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


def _sampling(chat: ChatRequest, tokenizer: Tokenizer) -> Sampling:
    default = tokenizer.sampling
    temperature = _or(chat.temperature, default.temperature)
    top_p = _or(chat.top_p, default.top_p)
    return Sampling(
        # A nucleus of nothing holds the best token alone.
        temperature=0.0 if top_p == 0 else temperature,
        top_k=_or(chat.top_k, default.top_k),
        top_p=1.0 if top_p == 0 else top_p,
        min_p=_or(chat.min_p, default.min_p),
        seed=secrets.randbits(63) if chat.seed is None else chat.seed % 2**64,
        xtc_probability=_or(chat.xtc_probability, default.xtc_probability),
        xtc_threshold=_or(chat.xtc_threshold, default.xtc_threshold),
        xtc_kept_ids=tokenizer.xtc_kept_ids if chat.xtc_probability else (),
        repetition_penalty=_or(chat.repetition_penalty, default.repetition_penalty),
        repetition_context=_or(chat.repetition_context_size, default.repetition_context),
        presence_penalty=_or(chat.presence_penalty, default.presence_penalty),
        frequency_penalty=_or(chat.frequency_penalty, default.frequency_penalty),
        logit_bias=_logit_bias(chat, tokenizer.vocabulary_size),
        top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
    )


def _logit_bias(chat: ChatRequest, vocabulary_size: int) -> tuple[tuple[int, float], ...]:
    """In the order of ids; what changes nothing is left out. Raises RequestError for an id of no token."""
    biases = {int(token): amount for token, amount in (chat.logit_bias or {}).items()}
    for token in biases:
        if token >= vocabulary_size:
            message = f"{token} is no token of this model, whose ids end at {vocabulary_size - 1}"
            raise RequestError(f"logit_bias: {message}", param=f"logit_bias.{token}", code="invalid_value")
    return tuple(sorted((token, amount) for token, amount in biases.items() if amount))


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
