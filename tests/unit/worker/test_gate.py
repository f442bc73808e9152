"""Which frames the first of several stages computes, and when: those that wait for tokens, those that pass them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable

import pytest

from mlxctl.rpc import shard_pb2
from mlxctl.worker.gate import Arrival, Gate

pytestmark = pytest.mark.unit

FREE = shard_pb2.CacheOperation.FREE
LANES = {1, 2, 3}


def frame(lane: int, step: int, *, drawn: bool = False, frees: Iterable[int] = (), rows: int = 1) -> Arrival:
    header = shard_pb2.FrameHeader(lane=lane, step=step, rows=rows, columns=1, drawn=drawn)
    header.operations.extend(shard_pb2.CacheOperation(kind=FREE, handle=handle) for handle in frees)
    return Arrival(header, (), 0.0, 0.0)


def result(lane: int, step: int, *tokens: int, failure: str = "") -> shard_pb2.ResultHeader:
    return shard_pb2.ResultHeader(lane=lane, step=step, token_ids=tokens, failure=failure, failed_stage=1)


def passed(*items: Arrival | shard_pb2.ResultHeader, is_fed: bool = True) -> list[shard_pb2.FrameHeader]:
    """What comes out until the end."""
    gate = Gate(LANES, is_fed=is_fed)
    for item in (*items, None):
        gate.put(item)
    found = []
    while (arrival := gate.next()) is not None:
        found.append(arrival.header)
    return found


def places(*items: Arrival | shard_pb2.ResultHeader) -> list[tuple[int, int]]:
    return [(header.lane, header.step) for header in passed(*items) if header.rows]


def test_a_frame_with_its_own_tokens_passes_at_once() -> None:
    assert places(frame(1, 0), frame(2, 0)) == [(1, 0), (2, 0)]


def test_a_frame_that_follows_a_draw_gets_its_tokens() -> None:
    header = passed(frame(1, 1, drawn=True), result(1, 0, 42))[0]
    assert (list(header.token_ids), header.drawn) == ([42], False)


def test_a_draw_may_come_before_the_frame_that_follows_it() -> None:
    assert places(result(1, 0, 42), frame(1, 1, drawn=True)) == [(1, 1)]


def test_a_frame_does_not_take_the_tokens_of_another_step() -> None:
    assert places(result(1, 0, 42), frame(1, 2, drawn=True)) == []


def test_where_one_stage_is_all_there_is_no_frame_waits_or_is_taken_apart() -> None:
    headers = passed(frame(1, 1, drawn=True, frees=[3]), frame(1, 2, drawn=True), is_fed=False)
    assert [(header.step, header.drawn, len(header.operations)) for header in headers] == [(1, True, 1), (2, True, 0)]


def test_who_waits_for_a_frame_can_stop_waiting() -> None:
    with pytest.raises(queue.Empty):
        Gate(LANES, is_fed=True).next(timeout_s=0.0)


def test_what_releases_nothing_does_not_prolong_the_wait() -> None:
    gate, enough = Gate(LANES, is_fed=True), threading.Event()
    put: list[int] = []

    def keep_putting() -> None:
        while len(put) < 100 and not enough.wait(0.02):
            gate.put(frame(1, len(put) + 1, drawn=True))
            put.append(len(put))

    putting = threading.Thread(target=keep_putting)
    putting.start()
    with pytest.raises(queue.Empty):
        gate.next(timeout_s=0.1)
    enough.set()
    putting.join()
    assert len(put) < 100


def test_a_frame_that_waits_has_come_when_its_tokens_have() -> None:
    gate = Gate(LANES, is_fed=True)
    gate.put(frame(1, 1, drawn=True))
    before_s = time.monotonic()
    gate.put(result(1, 0, 42))
    put_s = time.monotonic()
    time.sleep(0.01)
    arrival = gate.next()
    assert arrival is not None and before_s <= arrival.arrived_s <= put_s


def test_other_lanes_overtake_a_frame_that_waits() -> None:
    assert places(frame(1, 1, drawn=True), frame(2, 0), result(1, 0, 42)) == [(2, 0), (1, 1)]


def test_operations_on_a_lane_that_waits_keep_their_place_and_so_does_all_behind_them() -> None:
    items = (frame(1, 1, drawn=True), frame(2, 0, frees=[1]), frame(3, 0), result(1, 0, 42))
    assert places(*items) == [(1, 1), (2, 0), (3, 0)]


def test_operations_that_ride_on_a_waiting_frame_are_carried_out_without_it() -> None:
    operations, waiting = passed(frame(1, 1, drawn=True, frees=[3]), result(1, 0, 42))
    assert (operations.rows, [operation.handle for operation in operations.operations]) == (0, [3])
    assert (waiting.rows, len(waiting.operations)) == (1, 0)


def test_a_step_after_one_that_failed_fails_too() -> None:
    header = passed(frame(1, 1, drawn=True), result(1, 0, failure="out of memory"))[0]
    assert (header.failure, header.failed_stage) == ("out of memory", 1)


def test_draws_of_lanes_that_are_gone_are_forgotten() -> None:
    assert places(result(9, 0, 42), frame(9, 1, drawn=True)) == []
    assert places(result(1, 0, 42), frame(2, 0, frees=[1]), frame(1, 1, drawn=True)) == [(2, 0)]
