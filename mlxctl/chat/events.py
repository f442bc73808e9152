"""The events of a streamed chat completion, and API errors as exceptions of ours. Pure; used by the chat client."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from mlxctl.errors import (
    AuthenticationError,
    ContextLengthExceeded,
    Degraded,
    MlxctlError,
    ModelNotFound,
    Overloaded,
    RequestError,
    StageLost,
    TimedOut,
    WireError,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reports them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event adds to the answer; most hold one field."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None


class _Delta(BaseModel):
    content: str | None = None
    reasoning: str | None = None  # mlx-lm's and vLLM's name
    reasoning_content: str | None = None  # DeepSeek's and SGLang's name


class _Choice(BaseModel):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Error(BaseModel):
    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class _Event(BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


def parse_event(data: str) -> Chunk:
    """The chunk in one `data:` field. Raises what a reported error means, or WireError if it is no such event."""
    try:
        event = _Event.model_validate_json(data)
    except ValidationError:
        raise WireError(f"the server sent an event that is no chat completion: {data[:80]!r}") from None
    if event.error is not None:
        raise _exception(_STATUS_BY_TYPE.get(event.error.type or "", 500), event.error, retry_after_s=1)
    choice = event.choices[0] if event.choices else _Choice()
    usage = Usage(event.usage.prompt_tokens, event.usage.completion_tokens) if event.usage else None
    reasoning = choice.delta.reasoning_content or choice.delta.reasoning or ""
    return Chunk(choice.delta.content or "", reasoning, choice.finish_reason, usage)


def error_from_response(status: int, body: str, retry_after: str | None) -> MlxctlError:
    """What a response other than 200 means: in OpenAI's error shape, or of any other server."""
    try:
        error = _Event.model_validate_json(body).error or _Error()
    except ValidationError:
        error = _Error()
    return _exception(status, error, int(retry_after) if retry_after and retry_after.isdigit() else 1)


_STATUS_BY_TYPE = {"invalid_request_error": 400, "authentication_error": 401, "rate_limit_error": 429}


def _exception(status: int, error: _Error, retry_after_s: int) -> MlxctlError:
    message = " ".join(error.message.split()) or f"the server answered with HTTP status {status}"
    if status in (401, 403):
        return AuthenticationError(message)
    if status == 429:
        return Overloaded(message, retry_after_s=retry_after_s)
    if error.code == ContextLengthExceeded.default_code:
        return ContextLengthExceeded(message, param=error.param)
    if error.code == ModelNotFound.default_code:
        return ModelNotFound(message)
    if status == 503 or error.code in (Degraded.default_code, StageLost.default_code):
        return Degraded(message, hint="`mlxctl status` shows what is missing")
    if status == 504 or error.code == TimedOut.default_code:
        return TimedOut(message)
    return RequestError(message) if 400 <= status < 500 else MlxctlError(message)
