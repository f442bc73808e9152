"""The control socket: what only this cluster's owner may ask. Served by the daemon, called by `down`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


def create_control_app(status: Callable[[], dict[str, Any]], stop: Callable[[float], None]) -> Starlette:
    """GET /status; POST /stop {"drain_s": seconds}, answered before the end begins."""

    async def get_status(request: Request) -> JSONResponse:
        return JSONResponse(status())

    async def post_stop(request: Request) -> JSONResponse:
        stop(float((await request.json())["drain_s"]))
        return JSONResponse({"stopping": True})

    return Starlette(routes=[Route("/status", get_status), Route("/stop", post_stop, methods=["POST"])])
