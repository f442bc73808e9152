"""An answer on its way to the client: OpenAI's chunks as server-sent events, and the end when the client is gone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlxctl.api.answer import ChatFinishReason, Delta, ToolCall
from mlxctl.api.errors import describe
from mlxctl.api.logprobs import LogprobWriter
from mlxctl.errors import MlxctlError

log = logging.getLogger("mlxctl.api")

T = TypeVar("T")

DONE: Final = b"data: [DONE]\n\n"
_NO_BUFFERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What all chunks of one answer, or the whole of it, begin with."""

    id: str
    created: int
    model: str

    def as_json(self, kind: str) -> dict[str, Any]:
        """`kind` is OpenAI's object name."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


class ChunkEncoder:
    """Deltas to events. All but the delta is the same in every chunk, so it is encoded once.

    Log-probabilities are written where `logprobs` says how.
    """

    def __init__(self, head: AnswerHead, *, include_usage: bool, logprobs: LogprobWriter | None = None) -> None:
        self._logprobs = logprobs
        opening = json.dumps(head.as_json("chat.completion.chunk"))[:-1]
        self._before = f'data: {opening}, "choices": [{{"index": 0, "delta": '
        self._usage = ', "usage": null' if include_usage else ""
        self._after = self._end("null")
        self._opening = opening
        self._tool_calls = 0

    def role(self) -> bytes:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""}, self._after)

    def delta(self, delta: Delta) -> bytes:
        """A chunk in the middle."""
        fields: dict[str, Any] = {}
        if delta.reasoning:
            fields["reasoning_content"] = delta.reasoning
        if delta.content:
            fields["content"] = delta.content
        if delta.tool_calls:
            fields["tool_calls"] = [
                {"index": self._tool_calls + place, **tool_call_json(call)}
                for place, call in enumerate(delta.tool_calls)
            ]
            self._tool_calls += len(delta.tool_calls)
        if self._logprobs is None:
            return self._chunk(fields, self._after)
        return self._chunk(fields, self._end("null", json.dumps(self._logprobs.as_json(delta.logprobs))))

    def end(self, reason: ChatFinishReason) -> bytes:
        """The chunk that says why the answer ended."""
        return self._chunk({}, self._end(f'"{reason}"'))

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The chunk after the end, with the token counts and no choice."""
        return f'data: {self._opening}, "choices": [], "usage": {json.dumps(usage)}}}\n\n'.encode()

    def _chunk(self, fields: Mapping[str, Any], after: str) -> bytes:
        return f"{self._before}{json.dumps(fields)}{after}".encode()

    def _end(self, reason: str, logprobs: str = "null") -> str:
        return f', "logprobs": {logprobs}, "finish_reason": {reason}}}]{self._usage}}}\n\n'


def tool_call_json(call: ToolCall) -> dict[str, Any]:
    """OpenAI's tool call object."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class EventStream(Response):
    """Sends events as they come, then calls `close`, also when the client goes before the end.

    An error on the way becomes the last event, since the status is out by then.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], close: Callable[[], None]) -> None:
        super().__init__(headers=_NO_BUFFERS)
        del self.headers["content-length"]
        self._events = events
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await unless_disconnected(receive, self._send_all(send))
        finally:
            self._close()

    async def _send_all(self, send: Send) -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        except Exception as error:
            if not isinstance(error, MlxctlError):
                log.error("unexpected %s in a stream", type(error).__name__, exc_info=error)
            event = f"data: {json.dumps(describe(error))}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None, with `work` cancelled and ended, as soon as the client has gone."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
