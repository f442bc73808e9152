"""The Starlette app of a cluster's API. Created by the coordinator, served by uvicorn."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from mlxctl.api.auth import Guard
from mlxctl.api.chat import ChatCompletions
from mlxctl.api.errors import CatchAll, on_http_error, on_mlxctl_error
from mlxctl.api.models import ServedModel, Status, model_routes
from mlxctl.api.openapi import openapi_route
from mlxctl.errors import MlxctlError
from mlxctl.request import Engine
from mlxctl.tokenizer import Tokenizer

__all__ = ["ServedModel", "create_app"]


def create_app(
    engine: Engine,
    tokenizer: Tokenizer,
    served: ServedModel,
    status: Status,
    api_key: str | None,
    *,
    host: str = "127.0.0.1",
) -> Starlette:
    """The app that serves `served` from `engine`.

    `status` gives the mlxctl.status/1 document; `/health` is ok while its `state` is "ready". `host` is the address
    that the API is bound to: on loopback, requests must name this machine in their Host header.
    """
    chat = ChatCompletions(engine, tokenizer, served)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat.create, methods=["POST"]),
            *model_routes(served, status),
            openapi_route(),
        ],
        middleware=[Middleware(CatchAll), Middleware(Guard, api_key=api_key, host=host)],
        exception_handlers={MlxctlError: on_mlxctl_error, HTTPException: on_http_error},
    )
