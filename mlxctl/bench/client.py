"""One streamed request, timed as its client sees it: any OpenAI-compatible endpoint. Called by measure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import httpx2

from mlxctl.bench.prompts import fingerprint
from mlxctl.bench.records import Answer
from mlxctl.chat.events import Usage, error_from_response, parse_event
from mlxctl.errors import MlxctlError, RequestError, WireError

OPTIONAL_FIELDS = ("logit_bias", "stream_options", "seed")
"""What makes figures more exact but not every server takes; one that refuses a field is not given it again."""

NEVER = -100.0
REFUSED = (400, 422)
_TIMEOUT = httpx2.Timeout(10.0, read=600.0)
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=64)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to be made. `due_s` is when it was planned (perf_counter), for requests that arrive by a clock."""

    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    seed: int
    keep_text: bool = False
    due_s: float | None = None


@dataclass(slots=True)
class Watched:
    """What came of one answer so far."""

    texts: list[str] = field(default_factory=list)
    moments_s: list[float] = field(default_factory=list)
    usage: Usage | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None


class Endpoint:
    """An OpenAI-compatible API at `base_url` (…/v1). An async context manager.

    `stop_ids` are kept from being drawn where the server honours `logit_bias`, so that answers have the length asked
    for. `count` counts tokens of a text for servers that do not report usage.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        stop_ids: Sequence[int] = (),
        count: Callable[[str], int | None] = lambda text: None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.refused: list[str] = []
        self._stop_ids = stop_ids
        self._count = count
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx2.AsyncClient(headers=headers, timeout=_TIMEOUT, limits=_LIMITS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, ask: Ask) -> Answer:
        """The answer; a request that fails is an answer with its `error`, and counts nowhere."""
        sent_s = time.perf_counter()
        watched = Watched()
        fault = None
        try:
            await self._watch(ask, watched)
        except MlxctlError as error:
            fault = error.line
        except (httpx2.TransportError, httpx2.SSEError) as error:
            fault = f"{type(error).__name__}: {error}"
        return self._answer(ask, watched, sent_s, time.perf_counter(), fault)

    async def status(self) -> dict[str, Any] | None:
        """The document at /status if it was read from the workers just now; None from a server without one."""
        try:
            response = await self._http.get(f"{self.base_url.removesuffix('/v1')}/status", params={"fresh": "1"})
            is_new = response.status_code == 200 and response.headers.get("age") == "0"
            document = response.json() if is_new else None
        except (httpx2.TransportError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    async def logprobs(self, ask: Ask) -> list[dict[str, Any]]:
        """The tokens of a whole answer, each with its two likeliest; empty from a server that does not tell."""
        extra = {"stream": False, "logprobs": True, "top_logprobs": 2}
        body = {**self._body(ask), **extra}
        body.pop("stream_options", None)
        try:
            response = await self._http.post(f"{self.base_url}/chat/completions", json=body)
            content = response.json()["choices"][0]["logprobs"]["content"]
        except (httpx2.TransportError, ValueError, LookupError, TypeError):
            return []
        return [token for token in content if isinstance(token, dict)] if isinstance(content, list) else []

    async def _watch(self, ask: Ask, watched: Watched) -> None:
        while True:
            body = self._body(ask)
            async with self._http.stream("POST", f"{self.base_url}/chat/completions", json=body) as response:
                if response.status_code == 200:
                    async for event in httpx2.EventSource(response):
                        if event.data == "[DONE]":
                            return
                        _take(event.data, watched)
                    if watched.finish_reason is None:
                        raise WireError("the connection ended in the middle of the answer")
                    return
                text = (await response.aread()).decode(errors="replace")
                error = error_from_response(response.status_code, text, response.headers.get("retry-after"))
            if response.status_code not in REFUSED or not self._drop_a_field(body, text):
                raise error

    def _drop_a_field(self, body: Mapping[str, Any], why: str) -> bool:
        """Whether there is an optional field left to do without: the one that the server names, else the next."""
        left = [name for name in OPTIONAL_FIELDS if name in body]
        if not left or "context_length" in why:
            return False
        self.refused.append(next((name for name in left if name in why), left[0]))
        return True

    def _body(self, ask: Ask) -> dict[str, Any]:
        optional = {
            "logit_bias": {str(stop): NEVER for stop in self._stop_ids} or None,
            "stream_options": {"include_usage": True},
            "seed": ask.seed,
        }
        kept = {name: value for name, value in optional.items() if value is not None and name not in self.refused}
        return {
            "model": self.model,
            "messages": list(ask.messages),
            "max_tokens": ask.max_tokens,
            "temperature": 0.0,
            "stream": True,
            **kept,
        }

    def _answer(self, ask: Ask, watched: Watched, sent_s: float, ended_s: float, fault: str | None) -> Answer:
        began_s = sent_s if ask.due_s is None else ask.due_s
        text = "".join(watched.texts)
        moments_s, usage = watched.moments_s, watched.usage
        completion = usage.completion_tokens if usage else (self._count(text) or len(watched.texts))
        prompt = usage.prompt_tokens if usage else (self._count(ask.messages[-1]["content"]) or 0)
        return Answer(
            prompt_tokens=prompt,
            completion_tokens=completion,
            tokens_from="usage" if usage else "tokenizer",
            cached_tokens=watched.cached_tokens,
            ttft_s=moments_s[0] - began_s if moments_s else None,
            e2e_s=(moments_s[-1] if moments_s else ended_s) - began_s,
            gaps_ms=tuple(round((after - before) * 1000, 3) for before, after in pairwise(moments_s)),
            finish_reason=watched.finish_reason,
            text_sha256=fingerprint(text),
            text=text if ask.keep_text else None,
            late_s=max(0.0, sent_s - began_s),
            error=fault or (None if moments_s else "the answer neither brought text nor ended"),
        )


def _take(event: str, watched: Watched) -> None:
    chunk = parse_event(event)
    if chunk.text or chunk.reasoning:
        watched.moments_s.append(time.perf_counter())
        watched.texts.append(chunk.reasoning + chunk.text)
    elif chunk.finish_reason is not None and not watched.moments_s:
        watched.moments_s.append(time.perf_counter())
    watched.finish_reason = chunk.finish_reason or watched.finish_reason
    if chunk.usage is not None and chunk.usage.completion_tokens:
        watched.usage = chunk.usage
        watched.cached_tokens = cached_tokens(event)


def cached_tokens(event: str) -> int | None:
    """Prompt tokens that the server says it had in a cache; None if it says nothing."""
    usage = json.loads(event).get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    value = details.get("cached_tokens") if isinstance(details, dict) else None
    return value if isinstance(value, int) else None


def check_answers(answers: Sequence[Answer]) -> None:
    """Raises RequestError where every request of a run failed: nothing can be measured then."""
    faults = [answer.error for answer in answers if answer.error is not None]
    if faults and len(faults) == len(answers):
        raise RequestError(f"the server answers no request of this workload: {faults[0]}")
