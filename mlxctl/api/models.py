"""What is served and how it is: GET /v1/models, /health, /status, /metrics. Routed by api.app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlxctl.errors import ModelNotFound

Status = Callable[[], dict[str, Any]]
Refresh = Callable[[], Awaitable[None]]
Metrics = Callable[[], bytes]

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind the API: its id, when it came up (seconds since 1970), its context in tokens."""

    id: str
    created: int
    context: int

    def check(self, model_id: str) -> None:
        """Raises ModelNotFound unless `model_id` is this model."""
        if model_id != self.id:
            raise ModelNotFound(f"the model {model_id!r} is not served here, {self.id!r} is", param="model")

    def as_json(self) -> dict[str, Any]:
        """OpenAI's model object."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": "mlxctl"}


async def no_refresh() -> None:
    """For a status that is always new."""


def model_routes(served: ServedModel, status: Status, refresh: Refresh = no_refresh) -> list[Route]:
    """Routes of everything that is only looked at. `/status?fresh=1` asks the workers first, and its Age is 0."""

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [served.as_json()]})

    async def model(request: Request) -> JSONResponse:
        served.check(request.path_params["model_id"])
        return JSONResponse(served.as_json())

    async def health(_: Request) -> JSONResponse:
        state = status()["state"]
        if state == "ready":
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": state}, 503)

    async def full_status(request: Request) -> JSONResponse:
        if "fresh" not in request.query_params:
            return JSONResponse(status())
        await refresh()
        return JSONResponse(status(), headers={"Age": "0"})

    return [
        Route("/v1/models", models),
        Route("/v1/models/", models),
        Route("/v1/models/{model_id:path}", model),  # ids of hub models contain slashes
        Route("/health", health),
        Route("/status", full_status),
    ]


def metrics_route(metrics: Metrics) -> Route:
    """Figures in Prometheus's text format."""

    async def text(_: Request) -> Response:
        return Response(metrics(), media_type=METRICS_TYPE)

    return Route("/metrics", text)
