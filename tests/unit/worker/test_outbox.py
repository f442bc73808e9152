"""Frames of a stage on their way out."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mlxctl.rpc import shard_pb2
from mlxctl.wire.frames import Frame, parse_result
from mlxctl.wire.parts import join
from mlxctl.worker.edge import Outbox, Scheduled, StepClock, Turn

pytestmark = pytest.mark.unit

EPOCH = 3


def scheduled(step: int, *tokens: int) -> Scheduled:
    result = shard_pb2.ResultHeader(step=step, token_ids=tokens, logprobs=[shard_pb2.TokenLogprob()])
    return Scheduled(lambda: None, lambda spent: Frame(result), failure, Turn(0.0, 0.0, 0.0, 0.0))


def failure(error: Exception) -> Frame[shard_pb2.ResultHeader]:
    return Frame(shard_pb2.ResultHeader(failure=str(error)))


def outbox(*frames: Scheduled) -> Outbox:
    box = Outbox(EPOCH, StepClock())
    for frame in frames:
        box.put(frame)
    box.close()
    return box


def test_the_coordinator_need_not_wait_until_the_first_stage_has_been_told() -> None:
    box = outbox(scheduled(0, 42))
    next(box.fed_parts())  # the thread that sends it does not go on before it is sent
    assert parse_result(next(join(box.result_parts(), epoch=EPOCH))).token_ids == [42]


def test_a_step_that_fails_on_the_device_says_so_and_the_next_one_goes_on() -> None:
    def wait() -> None:
        raise MemoryError("no room")

    box = outbox(replace(scheduled(0, 42), wait=wait), scheduled(1, 43))
    results = [parse_result(data) for data in join(box.parts(), epoch=EPOCH)]
    assert [(result.failure, list(result.token_ids)) for result in results] == [("no room", []), ("", [43])]


def test_a_frame_that_waits_for_the_step_before_is_queued_not_on_the_wire() -> None:
    clock, now_s = StepClock(), time.monotonic()
    clock.computed(Turn(0.0, now_s - 0.06, now_s - 0.06, now_s - 0.06))
    came_s = now_s - 0.05
    spent = clock.computed(Turn(0.0, came_s, came_s, came_s))
    assert spent.queue_us + spent.compute_us == pytest.approx(50_000, abs=5000)
    assert spent.queue_us > 40_000


def test_a_stage_that_has_waited_for_hours_still_computes() -> None:
    clock = StepClock()
    clock.computed(Turn(0.0, 0.0, 0.0, 0.0))
    hours_later_s = time.monotonic() + 10_000
    assert clock.computed(Turn(0.0, hours_later_s, hours_later_s, hours_later_s)).wait_us == 2**32 - 1


def test_the_first_stage_is_told_tokens_alone_and_only_if_there_are_any() -> None:
    told = [parse_result(data) for data in join(outbox(scheduled(0), scheduled(1, 42)).fed_parts(), epoch=EPOCH)]
    assert [(each.step, list(each.token_ids), len(each.logprobs)) for each in told] == [(1, [42], 0)]
