"""Who may ask: the API key, and the Host header against DNS rebinding. A layer around the whole app, set up by api.app.

No CORS headers are ever sent: a web page of somebody else's must not talk to a model on this machine.
"""

from __future__ import annotations

import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxctl.api.errors import error_body, error_response
from mlxctl.errors import AuthenticationError

OPEN_PATHS = frozenset({"/health"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(host: str) -> bool:
    """Whether an API bound to `host` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Lets a request through that bears the key and, where the API is bound to loopback, names this machine."""

    def __init__(self, app: ASGIApp, *, api_key: str | None, host: str) -> None:
        self._app = app
        self._key = api_key.encode() if api_key else None
        literal = f"[{host}]" if ":" in host else host
        self._hosts = LOOPBACK_HOSTS | {literal.lower()} if is_loopback(host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = self._refusal(Headers(scope=scope), scope["path"])
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> JSONResponse | None:
        if self._hosts is not None and host_name(headers.get("host", "")) not in self._hosts:
            message = f"the Host header {headers.get('host', '')!r} does not name this machine"
            return JSONResponse(error_body(message, "invalid_request_error", code="host_not_allowed"), 403)
        if self._key is not None and path not in OPEN_PATHS and not self._has_key(headers, self._key):
            return error_response(
                AuthenticationError("the API key is missing or wrong", hint="send Authorization: Bearer <key>")
            )
        return None

    def _has_key(self, headers: Headers, key: bytes) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key)


def host_name(header: str) -> str:
    """The host in a Host header, without its port: `[::1]:8100` is `[::1]`."""
    name, colon, port = header.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else header.strip().lower()
