"""The runner's loop while the device waits for a frame: whatever comes instead, it does not wait for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import Shard
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.wire.frames import parse_step
from mlxctl.wire.parts import join
from mlxctl.worker.edge import Outbox, StepClock, Turn
from mlxctl.worker.foresight import EVEN_STEPS
from mlxctl.worker.gate import Arrival, Gate
from mlxctl.worker.runner import Runner
from mlxctl.worker.steps import BuiltStep, Fed
from tests.tiny_models import CONFIGS, LAYERS, random_model
from tests.waiting_places import TIMEOUT_S, threads_that_wait

pytestmark = pytest.mark.unit

LANE, EPOCH = 1, 1
NEW, FREE = shard_pb2.CacheOperation.NEW, shard_pb2.CacheOperation.FREE


class Running:
    """The first of two stages, as it serves; nobody feeds it. Lane 1 has had even steps: the device waits."""

    def __init__(self, runner: Runner, gate: Gate) -> None:
        self.runner, self.gate = runner, gate
        self.sent: list[shard_pb2.FrameHeader] = []
        threading.Thread(target=self._send, args=(runner._outbox,), daemon=True).start()
        self.put(shard_pb2.FrameHeader(operations=[shard_pb2.CacheOperation(kind=NEW, handle=LANE)]))
        for number in range(EVEN_STEPS + 1):
            self.step(number)
        self.wait_until(lambda: runner._foresight.is_holding)

    def _send(self, outbox: Outbox) -> None:
        for data in join(outbox.parts(), epoch=EPOCH):
            self.sent.append(parse_step(data).header)

    def put(self, header: shard_pb2.FrameHeader) -> shard_pb2.FrameHeader:
        """What goes out for it."""
        before = len(self.sent)
        self.gate.put(Arrival(header, (), 0.0, time.monotonic()))
        self.wait_until(lambda: len(self.sent) > before)
        return self.sent[-1]

    def step(self, number: int) -> shard_pb2.FrameHeader:
        token = 7 + number
        return self.put(
            shard_pb2.FrameHeader(lane=LANE, step=number, rows=1, columns=1, token_ids=[token], positions=[number])
        )

    @property
    def lengths(self) -> list[int]:
        return self.runner.lanes.cache(LANE).lengths

    @staticmethod
    def wait_until(condition: Callable[[], bool]) -> None:
        until_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < until_s
            time.sleep(0.002)


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with threads_that_wait(monkeypatch) as (mlx, ahead):

        def load() -> Runner:
            model = random_model({"model_type": "qwen3", **CONFIGS["qwen3"]})
            return Runner("d", EPOCH, 0, 2, Shard(model, 0, 3, LayerMap.of(model)), outbox, ahead)

        outbox = Outbox(EPOCH, StepClock())
        runner = mlx.submit(load).result(TIMEOUT_S)
        gate = Gate(runner.lanes, is_fed=False)
        served = mlx.submit(lambda: runner.serve(gate))
        try:
            yield Running(runner, gate)
        finally:
            gate.put(None)
            served.result(TIMEOUT_S)
            outbox.close()


def test_the_end_of_the_stream_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as stage:
        pass
    assert not stage.runner._foresight.is_holding
    assert stage.lengths == [EVEN_STEPS + 1]


@pytest.mark.parametrize(
    "header",
    [
        shard_pb2.FrameHeader(lane=9, step=3, rows=1, columns=1, failure="lost", failed_stage=0),
        shard_pb2.FrameHeader(operations=[shard_pb2.CacheOperation(kind=NEW, handle=2)]),
        shard_pb2.FrameHeader(lane=9, step=3, rows=1, columns=1, token_ids=[1]),
    ],
    ids=["failure", "operations", "unknown lane"],
)
def test_a_frame_without_computation_lets_go(monkeypatch: pytest.MonkeyPatch, header: shard_pb2.FrameHeader) -> None:
    with running(monkeypatch) as stage:
        stage.put(header)
        assert not stage.runner._foresight.is_holding
        assert stage.lengths == [EVEN_STEPS + 1]
        assert not stage.step(EVEN_STEPS + 1).failure
        assert stage.lengths >= [EVEN_STEPS + 2]


def test_a_lane_may_be_freed_while_the_device_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as stage:
        stage.put(shard_pb2.FrameHeader(operations=[shard_pb2.CacheOperation(kind=FREE, handle=LANE)]))
        assert LANE not in stage.runner.lanes
        assert "no lane" in stage.step(EVEN_STEPS + 1).failure


def test_the_frame_that_it_waits_for_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as stage:
        before = stage.runner._clock.foreseen_steps
        assert not stage.step(EVEN_STEPS + 1).failure
        assert stage.runner._clock.foreseen_steps == before + 1


def test_the_step_after_one_that_failed_on_the_device_does_not_wait_for_its_tokens() -> None:
    model = random_model({"model_type": "qwen3", **CONFIGS["qwen3"]})
    runner = Runner("d", EPOCH, 0, 1, Shard(model, 0, LAYERS, LayerMap.of(model)), Outbox(EPOCH, StepClock()), None)
    fed = Fed(None, Future())
    built, turn = BuiltStep([], [], fed=fed), Turn(0.0, 0.0, 0.0, 0.0)
    scheduled = runner._scheduled(shard_pb2.FrameHeader(lane=LANE), built, turn)
    assert scheduled.failure(MemoryError("no room")).header.failure == "MemoryError: no room"
    with pytest.raises(MemoryError):
        fed.ids()
