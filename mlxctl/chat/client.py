"""An HTTP client of one OpenAI-compatible API, as chat needs it. Used by the REPL and by `mlxctl chat`."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from mlxctl.chat.events import Chunk, error_from_response, parse_event
from mlxctl.errors import MlxctlError, NotRunning, RequestError, TimedOut, UsageError, WireError

STATUS_SCHEMA = "mlxctl.status/1"
_ANSWER_TIMEOUT = httpx2.Timeout(10.0, read=600.0)  # a long prompt on a small machine is silent for minutes
_ASK_TIMEOUT_S = 10.0
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Served:
    """What answers: the model's id and, of a cluster of ours, its name, context in tokens and stages."""

    model: str
    cluster: str | None = None
    context: int | None = None
    stages: int | None = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class ChatClient:
    """One API at `base_url` (…/v1). A context manager: leaving it closes its connections.

    `key_hint` says what to do when the key is refused.
    """

    def __init__(self, base_url: str, api_key: str | None = None, key_hint: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._key_hint = key_hint
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # No proxy from the environment: the API is on this machine or next to it.
        self._http = httpx2.Client(headers=headers, timeout=_ANSWER_TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def served(self) -> Served:
        """Asks what is served. Raises NotRunning, AuthenticationError, WireError, UsageError (no such URL)."""
        with self._failures("asking for its models"):
            response = self._http.get(f"{self.base_url}/models", timeout=_ASK_TIMEOUT_S)
        if response.status_code not in (200, 404):
            raise self._refusal(response.status_code, response.text)
        try:
            models = _Models.model_validate_json(response.content).data
        except ValidationError:
            models = []
        if not models:
            raise WireError(f"{self.base_url} does not answer like an OpenAI API that serves a model")
        return _served(models[0].id, self._status_if_ours())

    def status(self) -> dict[str, Any]:
        """The document at /status, next to …/v1. Raises NotRunning, AuthenticationError, WireError."""
        root = self.base_url.removesuffix("/v1")
        with self._failures("asking for its status"):
            response = self._http.get(f"{root}/status", timeout=_ASK_TIMEOUT_S)
        if response.status_code != 200:
            raise self._refusal(response.status_code, response.text)
        try:
            document: dict[str, Any] = TypeAdapter(dict[str, Any]).validate_json(response.content)
        except ValidationError:
            raise WireError(f"{root}/status is no status document") from None
        return document

    def stream(
        self, model: str, messages: Sequence[Mapping[str, str]], fields: Mapping[str, Any]
    ) -> Generator[Chunk, None, None]:
        """The answer as it comes. Closing the generator closes the connection, which ends the work in the cluster.

        Raises NotRunning (nobody there, connection lost), TimedOut and what the API's errors mean.
        """
        body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        with (
            self._failures("in the middle of the answer"),
            self._http.stream("POST", f"{self.base_url}/chat/completions", json={**body, **fields}) as response,
        ):
            if response.status_code != 200:
                text = response.read().decode(errors="replace")
                raise self._refusal(response.status_code, text, response.headers.get("retry-after"))
            yield from _chunks(response)

    def _refusal(self, status: int, text: str, retry_after: str | None = None) -> MlxctlError:
        error = error_from_response(status, text, retry_after)
        if status == _UNAUTHORIZED:
            error.hint = self._key_hint
        return error

    def _status_if_ours(self) -> dict[str, Any]:
        """The status document; empty from a server that has none."""
        try:
            return self.status()
        except (RequestError, WireError):
            return {}

    @contextmanager
    def _failures(self, when: str) -> Iterator[None]:
        try:
            yield
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise UsageError(f"{self.base_url!r} is no URL of an API: {error}") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NotRunning(f"nothing answers at {self.base_url}", hint="`mlxctl status` shows what runs") from error
        except httpx2.TimeoutException as error:
            raise TimedOut(f"{self.base_url} went silent {when}") from error
        except (httpx2.TransportError, httpx2.SSEError) as error:
            raise NotRunning(f"the connection to {self.base_url} was lost {when}") from error


def _served(model: str, status: Mapping[str, Any]) -> Served:
    if status.get("schema") != STATUS_SCHEMA:
        return Served(model)
    return Served(model, status["cluster"], status["context"], len(status["stages"]))


def _chunks(response: httpx2.Response) -> Iterator[Chunk]:
    for event in httpx2.EventSource(response):
        if event.data == "[DONE]":
            return
        yield parse_event(event.data)
    raise httpx2.RemoteProtocolError("the stream ended without [DONE]")
