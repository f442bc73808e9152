"""GET /openapi.json: the API described for tools, from the very schema that checks requests. Routed by api.app."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import mlxctl
from mlxctl.api.schema import ChatRequest

_SCHEMAS: Final = "#/components/schemas/{model}"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MODEL: Final = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    },
}
_COMPLETION: Final = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {"object": {"const": "chat.completion"}, "choices": {"type": "array", "minItems": 1, "maxItems": 1}},
}
_OBJECT: Final = {"type": "object"}


def openapi_route() -> Route:
    """The route, with the document made once."""
    document = describe_api()

    async def openapi(_: Request) -> JSONResponse:
        return JSONResponse(document)

    return Route("/openapi.json", openapi)


def describe_api() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    request = ChatRequest.model_json_schema(ref_template=_SCHEMAS)
    schemas = {**request.pop("$defs"), "ChatRequest": request, "Error": _ERROR, "Model": _MODEL}
    models = {"type": "object", "properties": {"data": {"type": "array", "items": _ref("Model")}}, "required": ["data"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlxctl", "version": mlxctl.__version__},
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
        "paths": {
            "/v1/chat/completions": {"post": _chat_operation()},
            "/v1/models": {"get": _operation("The models served", models)},
            "/v1/models/{model_id}": {"get": _model_operation()},
            "/health": {"get": _operation("Whether requests are served", _OBJECT, {"503": _OBJECT})},
            "/status": {"get": _operation("The cluster: stages, memory, queue", _OBJECT)},
            "/metrics": {"get": _metrics_operation()},
            "/openapi.json": {"get": _operation("This document", _OBJECT)},
        },
    }


def _chat_operation() -> dict[str, Any]:
    operation = _operation("One answer to a conversation", _COMPLETION)
    operation["requestBody"] = {"required": True, "content": _content(_ref("ChatRequest"))}
    operation["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"description": "chat.completion.chunk objects as server-sent events, then [DONE]"}
    }
    return operation


def _metrics_operation() -> dict[str, Any]:
    operation = _operation("Figures for Prometheus", _OBJECT)
    operation["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return operation


def _model_operation() -> dict[str, Any]:
    operation = _operation("One model", _ref("Model"))
    operation["parameters"] = [{"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return operation


def _operation(summary: str, schema: dict[str, Any], others: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    answers = {"200": schema, **(others or {}), "default": _ref("Error")}
    responses = {status: {"description": summary, "content": _content(body)} for status, body in answers.items()}
    responses["default"]["description"] = "An error in OpenAI's shape"
    return {"summary": summary, "responses": responses}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _SCHEMAS.format(model=name)}
