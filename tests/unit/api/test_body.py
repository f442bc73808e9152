"""Bodies that are read, and how much of them at once."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from mlxctl.api.body import MAX_BODY_BYTES, MAX_HELD_BYTES, BodyReader
from mlxctl.errors import Overloaded

pytestmark = pytest.mark.unit


class Client:
    """Sends pieces of a body when told to."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
        self.request = Request(scope, self._messages.get)

    def send(self, body: bytes, *, more: bool) -> None:
        self._messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})


async def unfinished(reader: BodyReader, count: int) -> list[tuple[Client, asyncio.Task[bytes]]]:
    """Clients that have sent a longest body each, all but its end."""
    clients = [Client() for _ in range(count)]
    reading = [(client, asyncio.create_task(reader.read_json(client.request))) for client in clients]
    for client in clients:
        client.send(b"x" * MAX_BODY_BYTES, more=True)
    await asyncio.sleep(0.01)
    return reading


async def test_all_unfinished_bodies_together_have_a_limit_and_their_ends_make_room() -> None:
    reader, late = BodyReader(), Client()
    reading = await unfinished(reader, MAX_HELD_BYTES // MAX_BODY_BYTES)
    late.send(b"{}", more=False)
    with pytest.raises(Overloaded):
        await reader.read_json(late.request)
    first, task = reading[0]
    first.send(b"", more=False)
    assert len(await task) == MAX_BODY_BYTES
    late = Client()
    late.send(b"{}", more=False)
    assert await reader.read_json(late.request) == b"{}"
    for client, _ in reading[1:]:
        client.leave()
    results = await asyncio.gather(*(task for _, task in reading[1:]), return_exceptions=True)
    assert {type(result) for result in results} == {ClientDisconnect}


async def test_clients_that_leave_make_room() -> None:
    reader, late = BodyReader(), Client()
    reading = await unfinished(reader, MAX_HELD_BYTES // MAX_BODY_BYTES)
    for client, _ in reading:
        client.leave()
    await asyncio.gather(*(task for _, task in reading), return_exceptions=True)
    late.send(b"x" * MAX_BODY_BYTES, more=False)
    assert len(await reader.read_json(late.request)) == MAX_BODY_BYTES
