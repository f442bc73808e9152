"""Who is let in."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from mlxctl.api.auth import Guard, host_name, is_loopback

pytestmark = pytest.mark.unit


async def status_of(guard: Guard, path: str = "/v1/models", **headers: str) -> int:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": raw}
    await guard(scope, receive, send)
    return int(sent[0]["status"])


def guard(api_key: str | None = None, host: str = "127.0.0.1") -> Guard:
    return Guard(PlainTextResponse("in"), api_key=api_key, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8100", "localhost:1", "LOCALHOST", "[::1]:8100", "[::1]"])
async def test_this_machine_by_any_of_its_names_is_let_in(host: str) -> None:
    assert await status_of(guard(), host=host) == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8100", "127.0.0.1.evil.example", "", "localhost:x"])
async def test_another_name_for_this_machine_is_refused(host: str) -> None:
    assert await status_of(guard(), host=host) == 403


async def test_a_request_without_a_host_is_refused() -> None:
    assert await status_of(guard()) == 403


async def test_the_loopback_address_that_was_asked_for_is_let_in() -> None:
    assert await status_of(guard(host="127.0.0.2"), host="127.0.0.2:8100") == 200


async def test_on_another_interface_any_name_is_let_in_with_the_key() -> None:
    assert await status_of(guard("k", host="0.0.0.0"), host="mini1.local", authorization="Bearer k") == 200


@pytest.mark.parametrize("header", ["Bearer k", "bearer k", "Bearer  k "])
async def test_the_key_opens(header: str) -> None:
    assert await status_of(guard("k"), host="localhost", authorization=header) == 200


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Basic k", "k", "Bearer kk", "Bearer é"])
async def test_anything_but_the_key_does_not(header: str) -> None:
    assert await status_of(guard("k"), host="localhost", authorization=header) == 401


async def test_health_needs_no_key() -> None:
    assert await status_of(guard("k"), path="/health", host="localhost") == 200


async def test_without_a_key_of_ours_a_clients_key_does_not_matter() -> None:
    assert await status_of(guard(), host="localhost", authorization="Bearer whatever") == 200


@pytest.mark.parametrize("host", ["127.9.9.9", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "mini1.local", "localhost.evil.example"])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_port_is_no_part_of_a_host() -> None:
    assert [host_name(header) for header in ("a:1", "[::1]:1", "[::1]", "a")] == ["a", "[::1]", "[::1]", "a"]
