"""The body of a request: JSON, and not too much of it. Called by api.chat."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from mlxctl.errors import Overloaded

MAX_BODY_BYTES: Final = 8 * 2**20
# Beyond the cap we read on for a while without keeping it, so that the client gets to read why it is refused.
DRAIN_BYTES: Final = 8 * MAX_BODY_BYTES
# Of unfinished bodies.
MAX_HELD_BYTES: Final = 8 * MAX_BODY_BYTES
RETRY_AFTER_S: Final = 5


class BodyReader:
    """Reads bodies, of all clients together not too much at once."""

    def __init__(self) -> None:
        self._held_bytes = 0

    async def read_json(self, request: Request) -> bytes:
        """The raw body. Raises HTTPException 415 unless it is said to be JSON, 413 beyond MAX_BODY_BYTES; Overloaded.

        JSON is asked for by name because a foreign web page can send text without the browser asking us first.
        """
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise HTTPException(415, f"Content-Type {content_type!r}: application/json is expected")
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in request.stream():
                size += len(piece)
                if size <= MAX_BODY_BYTES:
                    self._hold(len(piece))
                    pieces.append(piece)
                elif size > DRAIN_BYTES:
                    break
        finally:
            self._held_bytes -= sum(map(len, pieces))
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        return b"".join(pieces)

    def _hold(self, size_bytes: int) -> None:
        if self._held_bytes + size_bytes > MAX_HELD_BYTES:
            raise Overloaded("too many long requests are arriving", retry_after_s=RETRY_AFTER_S)
        self._held_bytes += size_bytes
