"""HTTP connections that no client can hold for ever: deadlines and a cap, which uvicorn alone has not. Used by serving.

Every state of a connection has an end: waiting for headers, for the body, for a client that does not read, for the next
request. A cap on connections keeps the rest of the process's file descriptors free.
"""

from __future__ import annotations

import asyncio
import json
import resource
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlxctl.api.errors import error_body

MAX_CONNECTIONS: Final = 512
WANTED_DESCRIPTORS: Final = 4096
UNCLOSED_S: Final = 10  # at the end requests are cancelled whose connections were cut off before
FAREWELL_S: Final = 1.0
MIN_TAKEN_BYTES: Final = 256 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
Owed = Literal["headers", "body", "farewell"]

_REASONS: Final = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}


def _affordable_connections() -> int:
    """A quarter of the file descriptors that this process may have open: there are two servers in it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if limit == resource.RLIM_INFINITY else limit // 4


def raise_descriptor_limit() -> None:
    """A Mac gives a process 256 descriptors unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(WANTED_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True, slots=True)
class Limits:
    """Whole deadlines: bytes that trickle in do not prolong them. Each `unread_s` the client must take what waits for
    it, or MIN_TAKEN_BYTES of that.
    """

    header_s: float = 10.0
    body_s: float = 60.0
    unread_s: float = 30.0
    idle_s: int = 15
    connections: int = MAX_CONNECTIONS


class LimitedConfig(uvicorn.Config):
    """uvicorn's settings for `app` under `limits`."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        super().__init__(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=UNCLOSED_S,
            timeout_keep_alive=limits.idle_s,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self.limits = limits

    @cached_property
    def connection_cap(self) -> int:
        """As many as the limits and the process allow."""
        return min(self.limits.connections, _affordable_connections())


class LimitedProtocol(H11Protocol):
    """One connection. The timers are named after what the client owes."""

    def __init__(self, config: LimitedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._limits = config.limits
        self._cap = config.connection_cap
        self._request_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._owed: Owed | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it; beyond the cap say so and close."""
        transport.set_write_buffer_limits(high=0)  # whatever the client has not taken counts as unread
        super().connection_made(transport)
        if len(self.connections) > 2 * self._cap:
            self.transport.abort()
        elif len(self.connections) > self._cap:
            self._refuse(503, "too many connections", "too_many_connections")
        else:
            self._expect("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer outlives its connection."""
        self._expect(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A request begins with its first byte, and its body with the end of its headers."""
        if self._owed == "farewell":
            return
        if self.conn.their_state is h11.IDLE and self._owed is None:
            self._expect("headers")
        super().data_received(data)
        self._expect_what_is_missing()

    def on_response_complete(self) -> None:
        """The next request may have come already, pipelined."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect_what_is_missing()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self._reading_timer is None:
            self._expect_reading()

    def resume_writing(self) -> None:
        """It has read all there was."""
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def send_400_response(self, msg: str) -> None:
        """In OpenAI's shape."""
        self._refuse(400, f"no HTTP/1.1, or headers of more than {MAX_HEADER_BYTES} bytes", "invalid_http")

    def _expect_reading(self) -> None:
        unread_bytes = self.transport.get_write_buffer_size()
        self._reading_timer = self.loop.call_later(self._limits.unread_s, self._check_reading, unread_bytes)

    def _check_reading(self, before_bytes: int) -> None:
        if before_bytes - self.transport.get_write_buffer_size() >= MIN_TAKEN_BYTES:
            self._expect_reading()
        else:
            self.transport.abort()

    def _expect_what_is_missing(self) -> None:
        state = self.conn.their_state
        if self._owed == "farewell":
            return
        if state is h11.SEND_BODY:
            self._expect("body")
        elif state is not h11.IDLE or self.timeout_keep_alive_task is not None:
            self._expect(None)

    def _expect(self, owed: Owed | None) -> None:
        """From now on the client owes this, None for nothing."""
        if owed == self._owed:
            return
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._owed, self._request_timer = owed, None
        if owed is not None:
            deadlines_s = {"headers": self._limits.header_s, "body": self._limits.body_s, "farewell": FAREWELL_S}
            self._request_timer = self.loop.call_later(deadlines_s[owed], self._too_late)

    def _too_late(self) -> None:
        answered_early = self.conn.their_state is h11.SEND_BODY and self.cycle.response_started
        if answered_early or self._owed == "farewell":
            self.transport.abort()
        else:
            self._refuse(408, f"the request's {self._owed} took too long", "request_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """A last answer, whatever state the connection is in; h11 is not asked any more.

        The connection stays half open for a moment: closed while bytes still come, it would be reset, answer and all.
        """
        body = json.dumps(error_body(message, "invalid_request_error", code=code)).encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self._expect("farewell")
