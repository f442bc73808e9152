"""Events of a stream, and what happens when the client goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from openai.types.chat import ChatCompletionChunk
from starlette.types import Message

from mlxctl.api.answer import Delta, ToolCall
from mlxctl.api.stream import AnswerHead, ChunkEncoder, EventStream, unless_disconnected
from mlxctl.errors import StageLost

pytestmark = pytest.mark.unit

HEAD = AnswerHead("chatcmpl-1", 1_700_000_000, 'a "model"')


def chunk(event: bytes) -> ChatCompletionChunk:
    assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    return ChatCompletionChunk.model_validate_json(event.removeprefix(b"data: "))


@pytest.mark.parametrize("include_usage", [True, False])
def test_every_event_is_a_chunk_to_openais_client(include_usage: bool) -> None:
    encoder = ChunkEncoder(HEAD, include_usage=include_usage)
    call = ToolCall("c1", "f", '{"x": "\\n"}')
    delta = Delta('line\n"é😀\u2028', "hm", [call])
    first, middle, last = chunk(encoder.role()), chunk(encoder.delta(delta)), chunk(encoder.end("tool_calls"))
    assert first.choices[0].delta.role == "assistant" and first.choices[0].finish_reason is None
    assert middle.choices[0].delta.content == delta.content
    assert middle.choices[0].delta.model_extra == {"reasoning_content": "hm"}
    assert last.choices[0].finish_reason == "tool_calls"
    assert {event.id for event in (first, middle, last)} == {"chatcmpl-1"} and middle.model == HEAD.model


def test_calls_are_counted_through_all_chunks() -> None:
    encoder = ChunkEncoder(HEAD, include_usage=False)
    call = ToolCall("c", "f", "{}")
    chunks = [chunk(encoder.delta(Delta(tool_calls=[call, call]))), chunk(encoder.delta(Delta(tool_calls=[call])))]
    assert [made.index for each in chunks for made in each.choices[0].delta.tool_calls or []] == [0, 1, 2]


def test_usage_comes_in_a_chunk_of_its_own() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    made = chunk(ChunkEncoder(HEAD, include_usage=True).usage(usage))
    assert made.choices == [] and made.usage is not None and made.usage.total_tokens == 3


class Connection:
    """A client of an ASGI response that goes away when told so."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def test_an_error_on_the_way_is_the_last_event() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield b"data: 1\n\n"
        raise StageLost("the worker died", node="mini1", stage=1)

    connection, closed = Connection(), asyncio.Event()
    await EventStream(events(), closed.set)({}, connection.receive, connection.send)
    first, last, rest = connection.body.split(b"\n\n")
    assert first == b"data: 1" and rest == b"" and closed.is_set()
    assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == "node mini1, stage 1: the worker died"
    assert connection.sent[-1]["more_body"] is False


async def test_an_unexpected_error_on_the_way_tells_the_client_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def events() -> AsyncGenerator[bytes]:
        raise KeyError("secret")
        yield b""

    connection = Connection()
    await EventStream(events(), lambda: None)({}, connection.receive, connection.send)
    assert b"secret" not in connection.body and b"server_error" in connection.body
    assert "secret" in caplog.text


async def test_a_stream_whose_client_goes_is_closed() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield b"data: 1\n\n"
        await asyncio.Event().wait()

    connection, closed = Connection(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, connection.gone.set)
    await EventStream(events(), closed.set)({}, connection.receive, connection.send)
    assert closed.is_set()


async def test_a_stream_whose_client_does_not_read_is_closed_when_the_client_goes() -> None:
    async def events() -> AsyncGenerator[bytes]:
        while True:
            yield b"data: 1\n\n"

    async def blocked(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    connection, closed = Connection(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, connection.gone.set)
    await EventStream(events(), closed.set)({}, connection.receive, blocked)
    assert closed.is_set()


async def test_work_ends_when_the_client_goes() -> None:
    connection, ended = Connection(), asyncio.Event()

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "done"

    asyncio.get_running_loop().call_later(0.01, connection.gone.set)
    assert await unless_disconnected(connection.receive, work()) is None
    assert ended.is_set()


async def test_work_that_fails_raises_its_own_error() -> None:
    async def work() -> None:
        raise StageLost("gone")

    with pytest.raises(StageLost):
        await unless_disconnected(Connection().receive, work())
