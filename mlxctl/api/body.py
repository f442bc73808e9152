"""The body of a request: JSON, and not too much of it. Called by api.chat."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BODY_BYTES: Final = 8 * 2**20
# Beyond the cap we read on for a while without keeping it, so that the client gets to read why it is refused.
DRAIN_BYTES: Final = 8 * MAX_BODY_BYTES


async def read_json_body(request: Request) -> bytes:
    """The raw body. Raises HTTPException 415 unless it is said to be JSON, 413 beyond MAX_BODY_BYTES.

    JSON is asked for by name because a foreign web page can send text without the browser asking us first.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(415, f"Content-Type {content_type!r}: application/json is expected")
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size <= MAX_BODY_BYTES:
            pieces.append(piece)
        elif size > DRAIN_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    return b"".join(pieces)
