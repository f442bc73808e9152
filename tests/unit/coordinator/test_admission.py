"""The queue of requests: who comes next, and when one that found no place should come again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlxctl.coordinator.admission import MAX_RETRY_AFTER_S, RETRY_AFTER_S, Queue
from mlxctl.coordinator.session import Session
from mlxctl.errors import Overloaded
from mlxctl.request import GenerationRequest, Priority

pytestmark = pytest.mark.unit


def session(id: int, priority: Priority = "interactive") -> Session:
    return Session(id, GenerationRequest((1,), 1, priority=priority))


def retry_after_s(starts_s: Sequence[float], now_s: float) -> int:
    """What a full queue says at `now_s`, after sessions have started at `starts_s`."""
    moments = iter((*starts_s, now_s))
    queue = Queue(1, clock=lambda: next(moments))
    for id in range(len(starts_s)):
        queue.put(session(id))
        assert queue.take(lambda each: True) is not None
    queue.put(session(99))
    with pytest.raises(Overloaded) as caught:
        queue.check()
    return caught.value.retry_after_s


def test_interactive_requests_come_before_batch_ones_each_in_their_order() -> None:
    queue = Queue(4)
    for each in (session(1, "batch"), session(2), session(3, "batch"), session(4)):
        queue.put(each)
    assert [each.id for each in iter(lambda: queue.take(lambda each: True), None)] == [2, 4, 1, 3]


def test_who_finds_no_place_is_told_when_one_becomes_free_at_the_pace_of_late() -> None:
    assert retry_after_s([0.0, 10.0, 20.0], 30.0) == 10
    assert retry_after_s([0.0, 0.1, 0.2], 0.3) == 1
    assert retry_after_s([0.0, 1.0], 10_000.0) == MAX_RETRY_AFTER_S


def test_before_anything_has_started_it_is_a_guess() -> None:
    assert retry_after_s([], 30.0) == RETRY_AFTER_S
