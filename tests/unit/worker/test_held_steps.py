"""Steps for whose frames the device waits: what becomes of them when these come, stay away, or are others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import Shard, ShardCache, Tensor, array_bytes, decode_boundary, encode_boundary
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.worker import foresight as foresight_module
from mlxctl.worker.foresight import EVEN_STEPS, HELD_S, Foresight
from mlxctl.worker.gate import Arrival
from mlxctl.worker.mlx_thread import MlxThread
from mlxctl.worker.steps import StepForm, build_step
from tests.tiny_models import CONFIGS, random_model
from tests.waiting_places import TIMEOUT_S, threads_that_wait

pytestmark = pytest.mark.unit

Body = Callable[["Stage"], None]
OnStage = Callable[..., None]


class Stage:
    """Layers [start, 6) as the runner has them: frames come, steps go. Others compute each as it comes."""

    def __init__(self, model_type: str, ahead: MlxThread, start: int = 0, rows: int = 1) -> None:
        model, other = (random_model({"model_type": model_type, **CONFIGS[model_type]}) for _ in range(2))
        self.shard = Shard(model, start, 6, LayerMap.of(model))
        self._before = Shard(other, 0, start, LayerMap.of(other)) if start else None
        self.foresight = Foresight(self.shard, ahead)
        self.rows = rows
        self.caches = {lane: self._cache(self.shard) for lane in (1, 2)}
        self._plain = {lane: self._cache(self.shard) for lane in (1, 2)}
        self._before_caches = {lane: self._cache(self._before) for lane in (1, 2)} if self._before else {}

    def _cache(self, shard: Shard) -> ShardCache:
        cache = shard.make_cache()
        cache.join([shard.make_cache() for _ in range(self.rows - 1)])
        return cache

    def arrival(self, step: int, token: int, lane: int = 1) -> Arrival:
        """The frame of a step whose rows have the tokens from `token` on."""
        tokens = range(token, token + self.rows)
        header = shard_pb2.FrameHeader(
            lane=lane, step=step, rows=self.rows, columns=1, token_ids=tokens, positions=[step] * self.rows
        )
        if self._before is None:
            return Arrival(header, (), 0.0, time.monotonic())
        output = self._before.forward(self._ids(token), None, self._before_caches[lane])
        assert output.boundary is not None
        header.boundary, arrays = encode_boundary(output.boundary)
        tensors = tuple(bytes(array_bytes(array)) for array in arrays)
        header.tensor_bytes[:] = map(len, tensors)
        return Arrival(header, tensors, 0.0, time.monotonic())

    def _ids(self, token: int) -> mx.array:
        return mx.arange(token, token + self.rows, dtype=mx.int32)[:, None]

    def step(self, number: int, token: int, lane: int = 1) -> bool:
        """Whether the step had been built ahead; asserts that it computes what it would without."""
        frame = self.arrival(number, token, lane)
        form = StepForm.of(frame.header)
        foreseen = self.foresight.take(form, frame)
        tensors = [Tensor("uint8", (len(data),), data) for data in frame.tensors]
        ids, inbox = self._ids(token), decode_boundary(frame.header.boundary, tensors) if tensors else None
        built = foreseen or build_step(self.shard, self.caches[lane], ids, inbox, None)
        built.schedule()
        built.wait()
        assert self.caches[lane].lengths == [number + 1] * self.rows
        plain = build_step(self.shard, self._plain[lane], ids, inbox, None)
        plain.schedule()
        for ours, theirs in zip(built.waited, plain.waited, strict=True):
            assert np.array_equal(np.asarray(ours), np.asarray(theirs))
        sent = threading.Event()
        sent.set()
        self.foresight.sent(form, self.caches[lane], sent)
        return foreseen is not None

    def even_steps(self) -> int:
        """Until the device is given the next one; its number."""
        for number in range(EVEN_STEPS + 1):
            assert not self.step(number, 7 + number)
        assert self.foresight.wait_s() == 0.0
        self.foresight.do()
        return EVEN_STEPS + 1

    @property
    def is_held(self) -> bool:
        return 0 < (self.foresight.wait_s() or 0) <= HELD_S


@pytest.fixture
def on_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnStage]:
    """Runs a test's body on the thread that builds."""
    with threads_that_wait(monkeypatch) as (mlx, ahead):

        def run(body: Body, model_type: str = "qwen3", start: int = 0, rows: int = 1) -> None:
            done: Future[None] = mlx.submit(lambda: body(Stage(model_type, ahead, start, rows)))
            done.result(TIMEOUT_S)

        yield run


@pytest.mark.parametrize(("start", "rows"), [(0, 1), (3, 1), (3, 2)])
def test_a_step_that_was_held_computes_what_its_frame_brings(on_stage: OnStage, start: int, rows: int) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        for token in (42, 43, 44):
            assert stage.is_held
            assert stage.step(number, token)
            stage.foresight.do()
            number += 1
        stage.foresight.forget()
        assert not stage.step(number, 45)

    on_stage(body, start=start, rows=rows)


def test_one_whose_frame_does_not_come_is_let_go(on_stage: OnStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight_module, "HELD_S", 0.6)

    def body(stage: Stage) -> None:
        number = stage.even_steps()
        time.sleep(stage.foresight.wait_s() or 0)
        stage.foresight.do()
        assert stage.foresight.wait_s() is None
        for token in range(EVEN_STEPS + 1):
            assert not stage.step(number, token)
            number += 1
        assert (stage.foresight.wait_s() or 0) > 0.1, "frames that stay away for long are not waited for"

    on_stage(body)


def test_the_frame_of_another_lane_does_not_wait_for_it(on_stage: OnStage) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        assert not stage.step(0, 5, lane=2)
        assert not stage.is_held
        assert not stage.step(number, 42)

    on_stage(body)


def test_another_step_than_the_one_foreseen_is_computed_as_it_came(on_stage: OnStage) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        frame = stage.arrival(number, 42)
        frame.header.settings = b"others"
        assert stage.foresight.take(StepForm.of(frame.header), frame) is None
        assert stage.caches[1].lengths == [number]
        assert not stage.step(number, 42)

    on_stage(body)


def test_a_frame_that_does_not_fill_it_fails_alone(on_stage: OnStage) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        frame = stage.arrival(number, 42)
        frame.header.token_ids.extend([43, 44])
        with pytest.raises(ValueError, match="broadcast"):
            stage.foresight.take(StepForm.of(frame.header), frame)
        assert not stage.is_held
        assert not stage.step(number, 42)

    on_stage(body)


def test_what_scheduling_raises_is_raised_where_the_step_is_waited_for(on_stage: OnStage) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        frame = stage.arrival(number, 42)
        built = stage.foresight.take(StepForm.of(frame.header), frame)
        assert built is not None
        built.wait_until_scheduled()
        failed: Future[None] = Future()
        failed.set_exception(MemoryError("no room"))
        with pytest.raises(MemoryError):
            replace(built, _elsewhere=[(failed, ())]).wait()

    on_stage(body)


def test_caches_that_are_about_to_change_are_as_they_were(on_stage: OnStage) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        stage.foresight.forget()
        assert stage.foresight.wait_s() is None
        copy: ShardCache | None = stage.caches[1].copy(number)
        assert copy is not None
        stage.caches[1] = copy
        assert not stage.step(number, 42)

    on_stage(body)


def test_caches_that_cannot_step_back_wait_for_their_frames(on_stage: OnStage) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        assert not stage.is_held
        assert stage.step(number, 42)

    on_stage(body, "mamba2")
