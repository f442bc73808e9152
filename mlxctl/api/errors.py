"""Errors in OpenAI's shape, {"error": {"message", "type", "param", "code"}}. Every refusal of the API uses it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlxctl.api.wording import plain
from mlxctl.errors import MlxctlError, Overloaded, RequestError

log = logging.getLogger("mlxctl.api")

_HTTP_CODES: Final = {
    403: "host_not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
}
_UNEXPECTED: Final = "the server made a mistake; its log has the details"
# Steps of a pydantic location that name a key of an object or a member of a union, not a field.
_KEY_STEP: Final = "[key]"
_UNION_MEMBERS: Final = frozenset({"system", "developer", "user", "assistant", "tool"})


def error_body(
    message: str, error_type: str, *, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, str | None]]:
    """The one shape of all errors."""
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


def describe(error: Exception) -> dict[str, dict[str, str | None]]:
    """The body for `error`; of an unexpected one nothing is told but that it happened."""
    if isinstance(error, RequestError):
        return error_body(str(error), error.error_type, param=error.param, code=error.code)
    if isinstance(error, MlxctlError):
        return error_body(str(error), error.error_type, code=error.default_code)
    return error_body(_UNEXPECTED, "server_error")


def error_response(error: Exception) -> JSONResponse:
    """The response for `error`, logged where it is unexpected."""
    if not isinstance(error, MlxctlError):
        log.error("unexpected %s", type(error).__name__, exc_info=error)
        return JSONResponse(describe(error), 500)
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after_s)
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(describe(error), error.http_status, headers)


async def on_mlxctl_error(_: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for errors of ours."""
    return error_response(error)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for its own errors: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    message = error.detail
    if error.status_code in (404, 405):
        message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    code = _HTTP_CODES.get(error.status_code)
    return JSONResponse(
        error_body(message, "invalid_request_error", code=code), error.status_code, headers=error.headers
    )


def from_validation(error: ValidationError) -> RequestError:
    """The first mistake that pydantic found, as OpenAI words it: `param` is a path such as `messages[0].content`."""
    first = error.errors(include_url=False)[0]
    kind, param = first["type"], _path(first["loc"])
    if kind == "json_invalid":
        reason = first["msg"].removeprefix("Invalid JSON: ")
        return RequestError(f"the body is not JSON: {reason}", code="invalid_json")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        param = f"{param}.role"
    if kind in ("missing", "union_tag_not_found"):
        return RequestError(f"{param}: this field is required", param=param, code="missing_required_parameter")
    if kind == "extra_forbidden":
        message = "this field is not supported, so it is refused rather than ignored"
        return RequestError(f"{param}: {message}", param=param, code="unsupported_parameter")
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    message = plain(first)
    return RequestError(f"{param}: {message}" if param else message, param=param, code=code)


def _path(location: Sequence[str | int]) -> str | None:
    path = ""
    for index, step in enumerate(location):
        if isinstance(step, int):
            path += f"[{step}]"
        elif step != _KEY_STEP and not (step in _UNION_MEMBERS and index == 2 and location[0] == "messages"):
            path += f".{step}" if path else step
    return path or None


class CatchAll:
    """The outermost layer: whatever was not foreseen becomes a 500 without a traceback, and a line in our log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            await error_response(error)(scope, receive, send)
