"""Clients that hold a connection without using it, over raw sockets against the coordinator's own server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mlxctl.api.stream import EventStream
from mlxctl.coordinator.connections import MAX_HEADER_BYTES, Limits
from mlxctl.coordinator.serving import HttpServer, bind_api

pytestmark = pytest.mark.api

PATIENCE_S = 30.0
BRIEF_S = 0.3
LARGE_BYTES = 16 << 20
HEAD = b"GET /quick HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[..., Awaitable["Served"]]


@dataclass
class Served:
    """A running server; `stream_closed` and `body_lost` say what its app has noticed."""

    port: int
    stream_closed: asyncio.Event
    body_lost: asyncio.Event
    release: asyncio.Event

    async def connect(self, *, receive_bytes: int | None = None) -> Connection:
        client = socket.socket()
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=client)


@asynccontextmanager
async def serve(**limits: float) -> AsyncIterator[Served]:
    """The coordinator's server with an app that answers at once, echoes, streams for ever or waits for a release."""
    bound = bind_api("127.0.0.1", 0, asked_for=True)
    served = Served(bound.getsockname()[1], asyncio.Event(), asyncio.Event(), asyncio.Event())

    async def quick(_: Request) -> Response:
        return PlainTextResponse("quick")

    async def echo(request: Request) -> Response:
        try:
            return Response(await request.body())
        except ClientDisconnect:
            served.body_lost.set()
            raise

    async def large(_: Request) -> Response:
        return Response(b"x" * LARGE_BYTES)

    async def slow(_: Request) -> Response:
        await served.release.wait()
        return PlainTextResponse("slow")

    async def events() -> AsyncGenerator[bytes]:
        while True:
            yield b"data: " + b"x" * 4096 + b"\n\n"
            await asyncio.sleep(0)

    async def stream(_: Request) -> Response:
        return EventStream(events(), served.stream_closed.set)

    routes = [Route("/quick", quick), Route("/echo", echo, methods=["POST"]), Route("/slow", slow)]
    app = Starlette(routes=[*routes, Route("/stream", stream), Route("/large", large)])
    server = HttpServer(app, bound, Limits(**limits))  # type: ignore[arg-type]
    await server.started()
    try:
        yield served
    finally:
        served.release.set()
        await server.close()


async def rest(connection: Connection) -> bytes:
    """Everything up to the end of the connection, which the server brings about."""
    reader, writer = connection
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def answer(connection: Connection) -> bytes:
    """One whole answer with a Content-Length; the connection stays."""
    reader, _ = connection
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
        return head + await reader.readexactly(int(lengths[0]))


def error_code(content: bytes) -> str:
    document = json.loads(content.partition(b"\r\n\r\n")[2])
    return str(document["error"]["code"])


async def trickle(connection: Connection, content: bytes) -> None:
    """A byte at a time, for as long as it is taken."""
    _, writer = connection
    for place in range(len(content)):
        if writer.is_closing():
            return
        writer.write(content[place : place + 1])
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("sent", [b"", b"G", HEAD], ids=["nothing", "a letter", "headers without an end"])
async def test_headers_that_never_end_end_the_connection(sent: bytes) -> None:
    async with serve(header_s=BRIEF_S) as served:
        connection = await served.connect()
        connection[1].write(sent)
        content = await rest(connection)
    assert content.startswith(b"HTTP/1.1 408 ") and error_code(content) == "request_timeout"


async def test_headers_that_trickle_do_not_prolong_their_deadline() -> None:
    async with serve(header_s=BRIEF_S) as served:
        connection = await served.connect()
        trickling = asyncio.create_task(trickle(connection, HEAD + b"X: " + b"x" * 10_000))
        content = await rest(connection)
        await trickling
    assert content.startswith(b"HTTP/1.1 408 ")


async def test_the_headers_of_a_second_request_have_a_deadline_too() -> None:
    async with serve(header_s=BRIEF_S) as served:
        connection = await served.connect()
        connection[1].write(HEAD + b"\r\n")
        assert b"quick" in await answer(connection)
        connection[1].write(HEAD)
        assert (await rest(connection)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [b"", b"12345"])
async def test_a_body_that_never_ends_ends_the_connection(sent: bytes) -> None:
    async with serve(body_s=BRIEF_S) as served:
        connection = await served.connect()
        connection[1].write(POST % 10 + sent)
        content = await rest(connection)
        await asyncio.wait_for(served.body_lost.wait(), PATIENCE_S)
    assert content.startswith(b"HTTP/1.1 408 ") and b"body" in content


async def test_a_body_that_trickles_does_not_prolong_its_deadline() -> None:
    async with serve(body_s=BRIEF_S) as served:
        connection = await served.connect()
        trickling = asyncio.create_task(trickle(connection, POST % 10_000 + b"x" * 10_000))
        content = await rest(connection)
        await trickling
    assert content.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_takes_its_time_within_the_deadline_is_taken() -> None:
    async with serve(body_s=PATIENCE_S, header_s=PATIENCE_S) as served:
        connection = await served.connect()
        await trickle(connection, POST % 3 + b"abc")
        assert (await answer(connection)).endswith(b"abc")
        connection[1].close()


async def test_a_client_that_never_reads_its_stream_is_cut_off() -> None:
    async with serve(unread_s=BRIEF_S) as served:
        _, writer = await served.connect(receive_bytes=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(served.stream_closed.wait(), PATIENCE_S)
        writer.transport.abort()


async def test_a_large_answer_may_be_taken_slowly() -> None:
    async with serve(unread_s=BRIEF_S) as served:
        reader, writer = await served.connect(receive_bytes=1 << 16)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(LARGE_BYTES >> 16):
            await reader.readexactly(1 << 16)
            await asyncio.sleep(0.01)
        writer.close()


async def test_a_large_answer_that_is_not_taken_ends_the_connection() -> None:
    async with serve(unread_s=BRIEF_S) as served:
        reader, writer = await served.connect(receive_bytes=4096)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(4 * BRIEF_S)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await rest((reader, writer))) < LARGE_BYTES


async def test_a_client_that_reads_its_stream_keeps_it() -> None:
    async with serve(unread_s=BRIEF_S, header_s=BRIEF_S, body_s=BRIEF_S, idle_s=1) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(100):
            await reader.readexactly(1 << 16)
            await asyncio.sleep(0.005)
        assert not served.stream_closed.is_set()
        writer.close()
        await asyncio.wait_for(served.stream_closed.wait(), PATIENCE_S)


async def test_a_request_that_is_worked_on_has_no_deadline() -> None:
    async with serve(header_s=BRIEF_S, body_s=BRIEF_S, unread_s=BRIEF_S, idle_s=1) as served:
        connection = await served.connect()
        connection[1].write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(1.5)
        served.release.set()
        assert (await answer(connection)).endswith(b"slow")
        connection[1].close()


async def test_an_idle_connection_ends() -> None:
    async with serve(idle_s=1) as served:
        connection = await served.connect()
        connection[1].write(HEAD + b"\r\n")
        assert b"quick" in await answer(connection)
        assert await rest(connection) == b""


async def test_beyond_the_cap_a_client_is_refused_and_one_that_leaves_makes_room() -> None:
    async with serve(connections=2) as served:
        first, second = await served.connect(), await served.connect()
        for connection in (first, second):
            connection[1].write(HEAD + b"\r\n")
            assert b"quick" in await answer(connection)
        content = await rest(await served.connect())
        assert content.startswith(b"HTTP/1.1 503 ") and error_code(content) == "too_many_connections"
        first[1].close()
        await first[1].wait_closed()
        third = await served.connect()
        third[1].write(HEAD + b"\r\n")
        assert b"quick" in await answer(third)
        for connection in (second, third):
            connection[1].close()


async def test_held_connections_do_not_keep_others_from_being_served() -> None:
    async with serve(connections=40, header_s=BRIEF_S) as served:
        holders = [await served.connect() for _ in range(40)]
        contents = await asyncio.gather(*map(rest, holders))
        assert {content[:12] for content in contents} == {b"HTTP/1.1 408"}
        connection = await served.connect()
        connection[1].write(HEAD + b"\r\n")
        assert b"quick" in await answer(connection)
        connection[1].close()


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\r\n\r\n", HEAD + b"X: " + b"x" * MAX_HEADER_BYTES], ids=["TLS", "headers without an end"]
)
async def test_what_is_no_http_or_has_too_large_headers_is_refused_in_openais_shape(sent: bytes) -> None:
    async with serve() as served:
        connection = await served.connect()
        connection[1].write(sent)
        content = await rest(connection)
    assert content.startswith(b"HTTP/1.1 400 ") and error_code(content) == "invalid_http"


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"", POST % 10], ids=["no HTTP", "no headers", "no body"])
async def test_a_client_that_is_refused_and_stays_does_not_keep_its_place(sent: bytes) -> None:
    async with serve(connections=1, header_s=BRIEF_S, body_s=BRIEF_S) as served:
        reader, writer = await served.connect()
        writer.write(sent)
        assert (await reader.readline()).startswith(b"HTTP/1.1 4")
        for _ in range(100):
            if b"quick" in (content := await asked_once(served)):
                break
            await asyncio.sleep(0.05)
        assert b"quick" in content
        writer.close()


async def asked_once(served: Served) -> bytes:
    connection = await served.connect()
    connection[1].write(HEAD + b"Connection: close\r\n\r\n")
    return await rest(connection)


async def test_two_requests_sent_at_once_are_both_answered() -> None:
    async with serve(header_s=BRIEF_S, idle_s=1) as served:
        connection = await served.connect()
        connection[1].write(POST % 3 + b"abc" + HEAD + b"\r\n")
        assert (await answer(connection)).endswith(b"abc")
        assert (await answer(connection)).endswith(b"quick")
        assert await rest(connection) == b""


async def test_a_body_that_was_not_waited_for_does_not_hold_the_connection() -> None:
    async with serve(body_s=BRIEF_S) as served:
        connection = await served.connect()
        connection[1].write(b"POST /quick HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12")
        content = await rest(connection)
    assert content.startswith(b"HTTP/1.1 405 ") and b"408" not in content


async def test_closing_the_server_ends_a_client_that_does_not_read() -> None:
    async with serve() as served:
        _, writer = await served.connect(receive_bytes=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(BRIEF_S)
    assert served.stream_closed.is_set()
    writer.transport.abort()
