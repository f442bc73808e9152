"""The Starlette app of a cluster's API. Created by the coordinator, served by uvicorn."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from mlxctl.api.access import Access
from mlxctl.api.chat import ChatCompletions
from mlxctl.api.errors import CatchAll, on_http_error, on_mlxctl_error
from mlxctl.api.models import Metrics, Refresh, ServedModel, Status, metrics_route, model_routes, no_refresh
from mlxctl.api.openapi import openapi_route
from mlxctl.errors import MlxctlError
from mlxctl.request import Engine
from mlxctl.tokenizer import Tokenizer

__all__ = ["Access", "ServedModel", "create_app"]


def create_app(
    engine: Engine,
    tokenizer: Tokenizer,
    served: ServedModel,
    status: Status,
    access: Access,
    metrics: Metrics,
    refresh: Refresh = no_refresh,
) -> Starlette:
    """The app that serves `served` from `engine` to those whom `access` lets in.

    `status` gives the mlxctl.status/1 document, which `refresh` makes anew; `/health` is ok while its `state` is
    "ready". `metrics` gives Prometheus's text.
    """
    chat = ChatCompletions(engine, tokenizer, served)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat.create, methods=["POST"]),
            *model_routes(served, status, refresh),
            metrics_route(metrics),
            openapi_route(),
        ],
        middleware=[Middleware(CatchAll), *access.layers()],
        exception_handlers={MlxctlError: on_mlxctl_error, HTTPException: on_http_error},
    )
