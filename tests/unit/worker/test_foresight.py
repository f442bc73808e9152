"""Steps built before their frames come: when, and what becomes of them."""

from __future__ import annotations

import threading
import time

import mlx.core as mx
import numpy as np
import pytest

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import Shard, ShardCache
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.worker.foresight import EVEN_STEPS, Foresight
from mlxctl.worker.gate import Arrival
from mlxctl.worker.steps import BuiltStep, StepForm, build_step
from tests.tiny_models import CONFIGS, random_model

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def shard() -> Shard:
    """The first of two stages."""
    model = random_model({"model_type": "qwen3", **CONFIGS["qwen3"]})
    return Shard(model, 0, 3, LayerMap.of(model))


def arrival(step: int, token: int = 7, lane: int = 1, at_s: float = 0.0) -> Arrival:
    header = shard_pb2.FrameHeader(lane=lane, step=step, rows=1, columns=1, token_ids=[token], positions=[step])
    return Arrival(header, (), 0.0, at_s)


def form(arrival: Arrival) -> StepForm:
    return StepForm.of(arrival.header)


def sent() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def after_steps(shard: Shard, steps: int) -> tuple[Foresight, ShardCache]:
    """One lane has had `steps` steps."""
    foresight, cache = Foresight(shard), shard.make_cache()
    for step in range(steps):
        foresight.take(form(arrival(step)), arrival(step))
        computed(build_step(shard, cache, mx.array([[7]]), None, None))
        foresight.sent(form(arrival(step)), cache, sent())
    return foresight, cache


def computed(built: BuiltStep) -> np.ndarray:
    built.schedule()
    return np.concatenate([np.asarray(array) for array in built.waited])


def test_a_lane_that_has_been_alone_has_its_next_step_built_ahead(shard: Shard) -> None:
    foresight, cache = after_steps(shard, EVEN_STEPS + 1)
    expected = computed(build_step(shard, cache.copy(cache.lengths[0]) or cache, mx.array([[42]]), None, None))
    assert foresight.wait_s() is not None
    foresight.do()
    assert foresight.wait_s() is None
    frame = arrival(EVEN_STEPS + 1, token=42)
    built = foresight.take(form(frame), frame)
    assert built is not None
    assert np.array_equal(computed(built), expected)


def test_before_that_nothing_is_built(shard: Shard) -> None:
    foresight, _ = after_steps(shard, EVEN_STEPS)
    assert foresight.wait_s() is None
    frame = arrival(EVEN_STEPS)
    assert foresight.take(form(frame), frame) is None


def test_a_step_that_was_built_for_nothing_leaves_no_trace(shard: Shard) -> None:
    foresight, cache = after_steps(shard, EVEN_STEPS + 1)
    foresight.do()
    other = arrival(EVEN_STEPS + 2)
    assert foresight.take(form(other), other) is None
    assert cache.lengths == [EVEN_STEPS + 1]


def test_caches_that_are_about_to_change_are_as_they_were(shard: Shard) -> None:
    foresight, cache = after_steps(shard, EVEN_STEPS + 1)
    foresight.do()
    foresight.forget()
    assert (cache.lengths, foresight.wait_s()) == ([EVEN_STEPS + 1], None)


def test_the_longer_frames_stay_away_the_later_the_next_step_is_built(shard: Shard) -> None:
    foresight, cache = after_steps(shard, EVEN_STEPS + 1)
    waits = []
    for step in range(EVEN_STEPS + 1, EVEN_STEPS + 9):
        waits.append(foresight.wait_s() or 0.0)
        frame = arrival(step, at_s=time.monotonic() + 100)
        foresight.take(form(frame), frame)
        foresight.sent(form(frame), cache, sent())
    assert waits == sorted(waits) and waits[0] < 1 < waits[-1] < 100


def test_one_frame_that_comes_early_is_believed_at_once(shard: Shard) -> None:
    foresight, cache = after_steps(shard, EVEN_STEPS + 1)
    for step, away_s in enumerate((100, 100, 100, 0), start=EVEN_STEPS + 1):
        frame = arrival(step, at_s=time.monotonic() + away_s)
        foresight.take(form(frame), frame)
        foresight.sent(form(frame), cache, sent())
    assert foresight.wait_s() == 0.0


def test_lanes_that_take_turns_have_their_next_steps_built_ahead_in_turn(shard: Shard) -> None:
    foresight, caches = Foresight(shard), {1: shard.make_cache(), 2: shard.make_cache()}
    for step in range(EVEN_STEPS):
        for lane, cache in caches.items():
            frame = arrival(step, lane=lane)
            foresight.take(form(frame), frame)
            computed(build_step(shard, cache, mx.array([[7]]), None, None))
            foresight.sent(form(frame), cache, threading.Event())
    built = []
    while foresight.wait_s() == 0.0:
        foresight.do()
        built.append([cache.lengths[0] for cache in caches.values()])
    assert built == [[EVEN_STEPS + 1, EVEN_STEPS], [EVEN_STEPS + 1, EVEN_STEPS + 1]]
    for lane in (2, 1):
        frame = arrival(EVEN_STEPS, lane=lane)
        assert foresight.take(form(frame), frame) is not None


def test_after_a_chunk_of_a_prompt_nothing_is_built_for_a_while(shard: Shard) -> None:
    foresight, cache = after_steps(shard, EVEN_STEPS + 1)
    assert foresight.wait_s() is not None
    chunk = shard_pb2.FrameHeader(lane=2, step=0, rows=1, columns=2, token_ids=[1, 2])
    foresight.sent(StepForm.of(chunk), shard.make_cache(), sent())
    assert foresight.wait_s() is None
    frame = arrival(EVEN_STEPS + 1)
    foresight.sent(form(frame), cache, sent())
    assert foresight.wait_s() is None
