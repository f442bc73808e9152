"""Who is let in."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Scope

from mlxctl.api.access import Access, host_name, is_loopback

pytestmark = pytest.mark.unit


async def ask(access: Access, path: str = "/v1/models", method: str = "GET", **headers: str) -> Message:
    """The head of the answer to a request, after all layers of `access`."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    app: ASGIApp = PlainTextResponse("in")
    for layer in reversed(access.layers()):
        app = layer.cls(app, *layer.args, **layer.kwargs)
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": raw}
    await app(scope, receive, send)
    return sent[0]


async def status_of(access: Access, path: str = "/v1/models", **headers: str) -> int:
    return int((await ask(access, path, **headers))["status"])


def guard(api_key: str | None = None, host: str = "127.0.0.1") -> Access:
    return Access(host, api_key)


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


LISTED = Access(
    "0.0.0.0", "k", allowed_hosts=("llm.example", "fd00::1"), cors_origins=("https://chat.example", "app://notes")
)


@pytest.mark.parametrize("host", ["llm.example", "LLM.example:8100", "[fd00::1]:8100", "localhost:8100"])
async def test_a_listed_name_is_let_in(host: str) -> None:
    assert await status_of(LISTED, host=host, authorization="Bearer k") == 200


async def test_beside_listed_names_no_other_is_let_in() -> None:
    assert await status_of(LISTED, host="mini1.local", authorization="Bearer k") == 403


async def test_a_listed_name_adds_to_those_of_loopback() -> None:
    access = Access(allowed_hosts=("llm.example",))
    assert [await status_of(access, host=host) for host in ("llm.example", "127.0.0.1", "x")] == [200, 200, 403]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:3000", "null", "", "http://127.0.0.1"])
async def test_pages_of_other_origins_are_refused(origin: str) -> None:
    assert await status_of(Access(), host="127.0.0.1:8100", origin=origin) == 403


async def test_the_apis_own_pages_may_ask() -> None:
    assert await status_of(Access(), host="127.0.0.1:8100", origin="http://127.0.0.1:8100") == 200


@pytest.mark.parametrize("origin", LISTED.cors_origins)
async def test_a_listed_page_may_ask_and_its_browser_is_told(origin: str) -> None:
    answer = await ask(LISTED, host="localhost", origin=origin, authorization="Bearer k")
    headers = Headers(raw=answer["headers"])
    assert (answer["status"], headers["access-control-allow-origin"], headers["vary"]) == (200, origin, "Origin")


async def test_a_listed_pages_preflight_needs_no_key() -> None:
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-stainless-os"}
    answer = await ask(LISTED, method="OPTIONS", host="localhost", origin="https://chat.example", **asked)
    headers = Headers(raw=answer["headers"])
    assert answer["status"] == 200 and headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "access-control-allow-credentials" not in headers


async def test_a_listed_page_without_the_key_learns_so() -> None:
    answer = await ask(LISTED, host="localhost", origin="https://chat.example")
    assert answer["status"] == 401 and "access-control-allow-origin" in Headers(raw=answer["headers"])


async def test_without_listed_pages_no_browser_is_told_anything() -> None:
    answer = await ask(Access(), host="localhost", origin="http://localhost")
    assert not [name for name in Headers(raw=answer["headers"]) if name.startswith("access-control")]
