"""Events of the stream become chunks, errors of the API become ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxctl.chat.events import Chunk, Usage, error_from_response, parse_event
from mlxctl.errors import (
    AuthenticationError,
    ContextLengthExceeded,
    Degraded,
    MlxctlError,
    ModelNotFound,
    Overloaded,
    RequestError,
    TimedOut,
    WireError,
)

pytestmark = pytest.mark.unit


def event(**fields: Any) -> str:
    return json.dumps({"id": "x", "object": "chat.completion.chunk", **fields})


def test_text_thinking_and_finish_reason_are_read() -> None:
    choices = [{"index": 0, "delta": {"content": "a", "reasoning": "b"}, "finish_reason": "stop"}]
    assert parse_event(event(choices=choices)) == Chunk("a", "b", "stop")


def test_thinking_is_read_under_its_other_name_too() -> None:
    assert parse_event(event(choices=[{"delta": {"reasoning_content": "b"}}])) == Chunk(reasoning="b")


def test_usage_comes_in_an_event_without_choices() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert parse_event(event(choices=[], usage=usage)) == Chunk(usage=Usage(3, 4))


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(MlxctlError, match="stage 1 was lost"):
        parse_event(event(error={"message": "stage 1 was lost", "type": "server_error"}))


@pytest.mark.parametrize("data", ["", "not json", "[]", '{"choices": 1}'])
def test_what_is_no_event_is_refused(data: str) -> None:
    with pytest.raises(WireError):
        parse_event(data)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, RequestError),
        (400, "context_length_exceeded", ContextLengthExceeded),
        (401, None, AuthenticationError),
        (403, None, AuthenticationError),
        (404, "model_not_found", ModelNotFound),
        (429, "queue_full", Overloaded),
        (500, None, MlxctlError),
        (503, None, Degraded),
        (504, None, TimedOut),
    ],
)
def test_a_status_becomes_the_error_it_came_from(status: int, code: str | None, kind: type[MlxctlError]) -> None:
    error = error_from_response(status, event(error={"message": "so it is", "code": code}), None)
    assert type(error) is kind
    assert error.message == "so it is"


def test_an_answer_without_our_error_shape_is_told_by_its_status() -> None:
    assert "502" in error_from_response(502, "<html>", None).message


def test_the_time_to_wait_is_kept() -> None:
    error = error_from_response(429, event(error={"message": "full"}), "7")
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 7
