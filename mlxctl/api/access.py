"""Who may ask: Host and Origin headers, CORS, the API key. Layers around the whole app, set up by api.app.

A web page of somebody else's must not talk to a model on this machine: neither under a name of its own that leads here
(DNS rebinding: Host), nor from the user's browser (Origin), unless the profile lists it.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxctl.api.errors import error_body, error_response
from mlxctl.errors import AuthenticationError

OPEN_PATHS = frozenset({"/health"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
CORS_MAX_AGE_S = 600


@dataclass(frozen=True, slots=True)
class Access:
    """`host` is the address that the API is bound to. On loopback, or with `allowed_hosts`, it knows its names.

    Pages of `cors_origins` may ask from a browser. `api_key` None: no key is asked for.
    """

    host: str = "127.0.0.1"
    api_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """Names in Host headers that are answered; None for any."""
        if not is_loopback(self.host) and not self.allowed_hosts:
            return None
        return LOOPBACK_HOSTS | {_literal(host) for host in (self.host, *self.allowed_hosts)}

    def layers(self) -> list[Middleware]:
        """From the outside in. A browser's preflight bears no key, so CORS stands before the key."""
        cors = Middleware(
            CORSMiddleware,
            allow_origins=self.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
            max_age=CORS_MAX_AGE_S,
        )
        return [
            Middleware(Names, known_hosts=self.known_hosts, origins=self.cors_origins),
            *([cors] if self.cors_origins else []),
            *([Middleware(Key, api_key=self.api_key)] if self.api_key else []),
        ]


def is_loopback(host: str) -> bool:
    """Whether an API bound to `host` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Names:
    """Lets a request through whose Host is known and whose Origin, if there is one, is the API's own or listed."""

    def __init__(self, app: ASGIApp, *, known_hosts: frozenset[str] | None, origins: Sequence[str]) -> None:
        self._app = app
        self._known_hosts = known_hosts
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._known_hosts is not None and host_name(host) not in self._known_hosts:
            return _forbidden(
                f"the Host header {host!r} does not name this API (api.allowed_hosts)", "host_not_allowed"
            )
        if origin is None or origin in self._origins or origin.partition("://")[2].lower() == host.lower():
            return None
        return _forbidden(f"the origin {origin!r} is not in api.cors_origins", "origin_not_allowed")


class Key:
    """Lets a request through that bears the key."""

    def __init__(self, app: ASGIApp, *, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        open_to_all = scope["type"] != "http" or scope["path"] in OPEN_PATHS
        if not open_to_all and not self._is_borne(Headers(scope=scope)):
            hint = "send Authorization: Bearer <key>"
            await error_response(AuthenticationError("the API key is missing or wrong", hint=hint))(
                scope, receive, send
            )
            return
        await self._app(scope, receive, send)

    def _is_borne(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key)


def host_name(header: str) -> str:
    """The host in a Host header, without its port: `[::1]:8100` is `[::1]`."""
    name, colon, port = header.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else header.strip().lower()


def _literal(host: str) -> str:
    """`host` as it stands in a Host header."""
    return f"[{host}]".lower() if ":" in host else host.lower()


def _forbidden(message: str, code: str) -> JSONResponse:
    return JSONResponse(error_body(message, "invalid_request_error", code=code), 403)
