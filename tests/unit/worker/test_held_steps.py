"""Steps for whose frames the device waits: what becomes of them when these come, stay away, or are others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import mlx.core as mx
import numpy as np
import pytest

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import Shard, ShardCache
from mlxctl.sharding.layer_map import LayerMap
from mlxctl.worker import foresight as foresight_module
from mlxctl.worker.foresight import EVEN_STEPS, HELD_S, Foresight
from mlxctl.worker.gate import Arrival
from mlxctl.worker.mlx_thread import MlxThread
from mlxctl.worker.steps import BuiltStep, StepForm, build_step
from tests.tiny_models import CONFIGS, random_model
from tests.waiting_places import TIMEOUT_S, threads_that_wait

pytestmark = pytest.mark.unit

Body = Callable[["Stage"], None]


def arrival(step: int, token: int, lane: int = 1) -> Arrival:
    header = shard_pb2.FrameHeader(lane=lane, step=step, rows=1, columns=1, token_ids=[token], positions=[step])
    return Arrival(header, (), 0.0, time.monotonic())


class Stage:
    """The first of two stages as the runner has it: frames come, steps go. A second one computes as they come."""

    def __init__(self, model_type: str, ahead: MlxThread) -> None:
        model = random_model({"model_type": model_type, **CONFIGS[model_type]})
        self.shard = Shard(model, 0, 3, LayerMap.of(model))
        self.foresight = Foresight(self.shard, ahead)
        self.caches = {lane: self.shard.make_cache() for lane in (1, 2)}
        self._plain = {lane: self.shard.make_cache() for lane in (1, 2)}
        self.built: list[BuiltStep] = []

    def step(self, number: int, token: int, lane: int = 1) -> bool:
        """Whether the step had been built ahead; asserts that it computes what it would without."""
        frame = arrival(number, token, lane)
        form = StepForm.of(frame.header)
        foreseen = self.foresight.take(form, frame)
        ids = mx.array([[token]])
        built = foreseen or build_step(self.shard, self.caches[lane], ids, None, None)
        built.schedule()
        built.wait()
        assert self.caches[lane].lengths == [number + 1]
        plain = build_step(self.shard, self._plain[lane], ids, None, None)
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
def on_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Body, str], None]]:
    """Runs a test's body on the thread that builds."""
    with threads_that_wait(monkeypatch) as (mlx, ahead):

        def run(body: Body, model_type: str = "qwen3") -> None:
            done: Future[None] = mlx.submit(lambda: body(Stage(model_type, ahead)))
            done.result(TIMEOUT_S)

        yield run


def test_a_step_that_was_held_computes_what_its_frame_brings(on_stage: Callable[[Body], None]) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        for token in (42, 43, 44):
            assert stage.is_held
            assert stage.step(number, token)
            stage.foresight.do()
            number += 1
        stage.foresight.forget()

    on_stage(body)


def test_one_whose_frame_does_not_come_is_let_go(
    on_stage: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foresight_module, "HELD_S", 0.3)

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


def test_the_frame_of_another_lane_does_not_wait_for_it(on_stage: Callable[[Body], None]) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        assert not stage.step(0, 5, lane=2)
        assert not stage.is_held
        assert not stage.step(number, 42)

    on_stage(body)


def test_another_step_than_the_one_foreseen_is_computed_as_it_came(on_stage: Callable[[Body], None]) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        frame = arrival(number, 42)
        frame.header.settings = b"others"
        assert stage.foresight.take(StepForm.of(frame.header), frame) is None
        assert stage.caches[1].lengths == [number]
        assert not stage.step(number, 42)

    on_stage(body)


def test_caches_that_are_about_to_change_are_as_they_were(on_stage: Callable[[Body], None]) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        stage.foresight.forget()
        assert stage.foresight.wait_s() is None
        copy: ShardCache | None = stage.caches[1].copy(number)
        assert copy is not None
        stage.caches[1] = copy
        assert not stage.step(number, 42)

    on_stage(body)


def test_caches_that_cannot_step_back_wait_for_their_frames(on_stage: Callable[[Body, str], None]) -> None:
    def body(stage: Stage) -> None:
        number = stage.even_steps()
        assert not stage.is_held
        assert stage.step(number, 42)

    on_stage(body, "mamba2")
