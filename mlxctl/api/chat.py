"""POST /v1/chat/completions: a request in, an answer out, whole or as a stream. Routed by api.app."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from mlxctl.api.answer import AnswerReader, ChatFinishReason, Delta
from mlxctl.api.body import BodyReader
from mlxctl.api.errors import from_validation
from mlxctl.api.logprobs import LogprobWriter
from mlxctl.api.models import ServedModel
from mlxctl.api.order import Order, prepare
from mlxctl.api.schema import ChatRequest
from mlxctl.api.stream import DONE, AnswerHead, ChunkEncoder, EventStream, tool_call_json, unless_disconnected
from mlxctl.errors import Interrupted
from mlxctl.request import Engine, Generation, TokenLogprob
from mlxctl.tokenizer import Tokenizer

log = logging.getLogger("mlxctl.api")

# Longer requests are rendered and cut into tokens on a thread: 16 KiB take some 10 ms of the event loop.
INLINE_BODY_BYTES: Final = 16 * 1024
_CLIENT_GONE: Final = 499


class ChatCompletions:
    """Serves chat completions of one model."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, served: ServedModel) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._served = served
        self._bodies = BodyReader()

    async def create(self, request: Request) -> Response:
        """The endpoint."""
        try:
            chat, order = await self._order(request)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        answer = Answer(
            AnswerHead(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), self._served.id),
            order,
            self._engine.submit(order.generation),
            AnswerReader(self._tokenizer, order.answer_format),
            LogprobWriter(self._tokenizer) if chat.logprobs else None,
        )
        if chat.stream:
            include_usage = chat.stream_options is not None and bool(chat.stream_options.include_usage)
            return EventStream(answer.events(include_usage=include_usage), answer.close)
        try:
            whole = await unless_disconnected(request.receive, answer.whole())
        finally:
            answer.close()
        return Response(status_code=_CLIENT_GONE) if whole is None else JSONResponse(whole)

    async def _order(self, request: Request) -> tuple[ChatRequest, Order]:
        body = await self._bodies.read_json(request)
        try:
            chat = ChatRequest.model_validate_json(body)
        except ValidationError as error:
            raise from_validation(error) from None
        self._served.check(chat.model)
        arguments = (chat, self._tokenizer, self._served.context)
        if len(body) <= INLINE_BODY_BYTES:
            return chat, prepare(*arguments)
        return chat, await asyncio.to_thread(prepare, *arguments)


class Answer:
    """One answer while it is made. Asked for once, as events or as a whole, and closed afterwards."""

    def __init__(
        self,
        head: AnswerHead,
        order: Order,
        generation: Generation,
        reader: AnswerReader,
        logprobs: LogprobWriter | None,
    ) -> None:
        self._head = head
        self._order = order
        self._generation = generation
        self._reader = reader
        self._logprobs = logprobs
        self._logprobs_given = 0

    async def whole(self) -> dict[str, Any]:
        """OpenAI's chat completion object."""
        total = Delta()
        async for delta in self._deltas():
            total += delta
        choice = {
            "index": 0,
            "message": _message(total),
            "logprobs": self._logprobs and self._logprobs.as_json(total.logprobs),
            "finish_reason": self._finish_reason(),
        }
        return {**self._head.as_json("chat.completion"), "choices": [choice], "usage": self._usage()}

    async def events(self, *, include_usage: bool) -> AsyncGenerator[bytes]:
        """OpenAI's chunks as server-sent events."""
        encoder = ChunkEncoder(self._head, include_usage=include_usage, logprobs=self._logprobs)
        yield encoder.role()
        async for delta in self._deltas():
            yield encoder.delta(delta)
        yield encoder.end(self._finish_reason())
        if include_usage:
            yield encoder.usage(self._usage())
        yield DONE

    def close(self) -> None:
        """Ends the generation, whether it is finished or of no use any more. Must be called."""
        self._generation.cancel()
        why = "stop string" if self._reader.stopped else self._generation.finish_reason or "ended early"
        usage = self._usage()
        log.info("%s: %s, %d + %d tokens", self._head.id, why, usage["prompt_tokens"], usage["completion_tokens"])

    async def _deltas(self) -> AsyncGenerator[Delta]:
        async for tokens in self._generation:
            delta = self._reader.feed(tokens)
            delta.logprobs += self._new_logprobs()
            if delta:
                yield delta
            if self._reader.stopped:
                break
        if delta := self._reader.finish():
            yield delta

    def _new_logprobs(self) -> Sequence[TokenLogprob]:
        """Of the tokens read since the last time."""
        begin, self._logprobs_given = self._logprobs_given, self._reader.completion_tokens
        return self._generation.logprobs[begin : self._logprobs_given] if self._logprobs else ()

    def _finish_reason(self) -> ChatFinishReason:
        reason = self._generation.finish_reason
        if self._reader.stopped or reason is not None:
            return self._reader.finish_reason(reason or "stop")
        raise Interrupted("the request was cancelled")

    def _usage(self) -> dict[str, Any]:
        """Exact counts. The token that ends an answer is not counted: it is no part of it."""
        prompt, completion = len(self._order.generation.prompt), self._reader.completion_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self._generation.cached_tokens},
        }


def _message(total: Delta) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": total.content, "refusal": None}
    if total.reasoning:
        message["reasoning_content"] = total.reasoning
    if total.tool_calls:
        message["tool_calls"] = [tool_call_json(call) for call in total.tool_calls]
        message["content"] = total.content or None
    return message
