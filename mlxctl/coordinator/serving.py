"""Sockets of the coordinator and the HTTP servers on them. Used by the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from mlxctl.coordinator.connections import LimitedConfig, Limits
from mlxctl.errors import LaunchError, PortTaken

PORT_TRIES = 100
BACKLOG = 512
START_POLL_S = 0.01
CLOSE_GRACE_S = 2.0
DEFAULT_LIMITS = Limits()


def bind_api(host: str, port: int, *, asked_for: bool) -> socket.socket:
    """A socket bound to `host`:`port`, or, if nobody `asked_for` that port, to the first free one after it (0: any).

    Raises PortTaken, LaunchError (the address is not one of this machine's).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + (1 if asked_for or port == 0 else PORT_TRIES)):
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, candidate))
            bound.listen(BACKLOG)
            return bound
        except OSError as error:
            bound.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise LaunchError(f"the API cannot listen on {host}: {error.strerror or error}") from error
    hint = "set another port with MLXCTL_API_PORT or api.port, or stop what listens there"
    raise PortTaken(f"port {port} on {host} is taken, the API cannot listen there", hint=hint)


def bind_control(path: Path) -> socket.socket:
    """A Unix socket at `path` that only its owner can use."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(umask)
    bound.listen(BACKLOG)
    return bound


class _Server(uvicorn.Server):
    """A server whose signals are the daemon's to handle."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """`app` on the bound socket `bound`, until closed; no client can hold it for longer than `limits` say."""

    def __init__(self, app: Starlette, bound: socket.socket, limits: Limits = DEFAULT_LIMITS) -> None:
        self._server = _Server(LimitedConfig(app, limits))
        self._task = asyncio.create_task(self._server.serve([bound]), name="http")

    async def started(self) -> None:
        """Return once requests are answered. Raises what ended the server before that."""
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise LaunchError("the HTTP server ended at once")
            await asyncio.sleep(START_POLL_S)

    async def close(self) -> None:
        """Stop accepting, give running answers two seconds, cut off what is left, end."""
        self._server.should_exit = True
        ended, _ = await asyncio.wait({self._task}, timeout=CLOSE_GRACE_S)
        if not ended:
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
        await self._task
