"""An answer is the sum of its chunks, and its figures count from the request."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from mlxctl.chat.answer import Answer, Reply
from mlxctl.chat.events import Chunk, Usage

pytestmark = pytest.mark.unit


def chunks(*given: Chunk) -> Generator[Chunk, None, None]:
    yield from given


def test_a_reply_adds_its_chunks_up() -> None:
    reply = Reply(chunks(Chunk(reasoning="hm"), Chunk("a"), Chunk("b", finish_reason="stop"), Chunk(usage=Usage(1, 3))))
    with reply:
        list(reply)
    answer = reply.answer
    assert (answer.text, answer.reasoning, answer.finish_reason, answer.usage) == ("ab", "hm", "stop", Usage(1, 3))


def test_what_came_before_the_end_is_there_at_any_time() -> None:
    reply = Reply(chunks(Chunk("a"), Chunk("b")))
    next(iter(reply))
    assert reply.answer.text == "a"


def test_leaving_a_reply_closes_its_stream() -> None:
    stream = chunks(Chunk("a"), Chunk("b"))
    with Reply(stream) as reply:
        next(iter(reply))
    assert list(stream) == []


def test_speed_counts_the_tokens_after_the_first() -> None:
    assert Answer("x", "", "stop", Usage(1, 11), ttft_s=0.5, elapsed_s=2.5).tokens_per_s == 5.0


@pytest.mark.parametrize(
    ("usage", "ttft_s"), [(None, 0.5), (Usage(1, 1), 0.5), (Usage(1, 11), None), (Usage(1, 11), 2.5)]
)
def test_speed_is_unknown_where_it_cannot_be_told(usage: Usage | None, ttft_s: float | None) -> None:
    assert Answer("x", "", "stop", usage, ttft_s, elapsed_s=2.5).tokens_per_s is None
