"""The MLX thread of a worker: loads the shard, then takes frames from the stream and schedules their computation.

MLX streams belong to a thread and lazy arrays cannot cross threads, so that everything which builds a graph happens
here. Nothing here waits for the device: `async_eval`, then the sender waits for the arrays (mlxctl/worker/edge.py).
But a step that was scheduled before its frame, in vain, is waited for (mlxctl/worker/foresight.py).
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxctl.errors import CorruptFrame, ForeignFrame, MlxctlError
from mlxctl.rpc import shard_pb2
from mlxctl.sharding import (
    LoadProgress,
    Shard,
    Tensor,
    TensorHeader,
    decode_boundary,
    load_model,
)
from mlxctl.wire.frames import Frame, parse_result, parse_step
from mlxctl.wire.parts import Assembler, Buffer, join
from mlxctl.wire.sampling import encode_logprobs, read_wanted
from mlxctl.worker import held
from mlxctl.worker.edge import AnyFrame, Outbox, Scheduled, Turn
from mlxctl.worker.foresight import Foresight
from mlxctl.worker.gate import Arrival, Gate
from mlxctl.worker.lanes import Lanes
from mlxctl.worker.memory import hold_to
from mlxctl.worker.mlx_thread import MlxThread
from mlxctl.worker.steps import BuiltStep, Fed, StepForm, array_view, build_step

log = logging.getLogger(__name__)

PLACED_BYTES = 1 << 20
CLEAR_EVERY = 256  # frames, as mlx-lm does: freed buffers of sizes that no longer come

StepFrame = Frame[shard_pb2.FrameHeader]


class Runner:
    """A loaded shard with its lanes. All methods but the properties run on the MLX thread."""

    def __init__(
        self,
        deployment: str,
        epoch: int,
        stage: int,
        stages: int,
        shard: Shard,
        outbox: Outbox,
        ahead: MlxThread | None,
    ) -> None:
        self.deployment = deployment
        self.epoch = epoch
        self.stage = stage
        self.stages = stages
        self.shard = shard
        self.lanes = Lanes(shard.make_cache)
        self._outbox = outbox
        self._clock = outbox.clock
        self._frames = 0
        self.gate: Gate | None = None
        self._foresight = Foresight(shard, ahead)

    @classmethod
    def load(
        cls,
        request: shard_pb2.LoadRequest,
        folder: Path,
        absent: Mapping[str, TensorHeader],
        outbox: Outbox,
        on_progress: Callable[[LoadProgress], None],
        ahead: MlxThread | None,
    ) -> Runner:
        """Load the shard from `folder`, which need not hold the tensors `absent`, and run it once. Steps may be
        scheduled on `ahead` before their frames come. Raises CheckpointError, IllegalCut.
        """
        hold_to(request.memory_limit_bytes)
        shard = load_model(folder, request.start, request.stop, on_progress=on_progress, absent=absent)
        shard.quantize_caches(request.kv_bits, request.kv_group_size)
        shard.warm_up()
        if ahead is not None and not held.works():
            ahead = None
        mx.clear_cache()
        return cls(request.deployment, request.epoch, request.stage, request.stages, shard, outbox, ahead)

    @property
    def is_fed(self) -> bool:
        """Whether the last stage tells this one what it draws."""
        return self.shard.is_first and not self.shard.is_last

    def arrivals(self, parts: Iterator[bytes]) -> Iterator[Arrival]:
        """The frames that a stream carries. Raises WireError on the first part that is not ours. On any thread."""
        assembler = Assembler(self.epoch)
        began_s = 0.0
        for part in parts:
            began_s = began_s or time.monotonic()
            data = assembler.add(part)
            if data is not None:
                frame = parse_step(data)
                self.check(frame.header)
                tensors = tuple(map(self._placed, frame.tensors))
                arrived_s = time.monotonic()
                yield Arrival(frame.header, tensors, arrived_s - began_s, arrived_s)
                began_s = 0.0

    def _placed(self, tensor: Buffer) -> Buffer | mx.array:
        """A large tensor as MLX's: copied on the thread that received it, while the MLX thread has other work. Not
        while the device waits for a frame: it may have to be idle for what is allocated.
        """
        if len(tensor) < PLACED_BYTES or self._foresight.is_holding:
            return tensor
        return mx.array(np.frombuffer(tensor, np.uint8))

    def results(self, parts: Iterator[bytes]) -> Iterator[shard_pb2.ResultHeader]:
        """The results that a stream carries. Raises WireError on the first part that is not ours. On any thread."""
        for data in join(parts, epoch=self.epoch):
            result = parse_result(data)
            self.check(result)
            yield result

    def check(self, header: shard_pb2.FrameHeader | shard_pb2.ResultHeader) -> None:
        """Raises ForeignFrame if `header` is of another deployment or epoch."""
        if header.deployment != self.deployment or header.epoch != self.epoch:
            raise ForeignFrame(f"a frame of {header.deployment}, epoch {header.epoch}; this is {self.deployment}")

    def serve(self, gate: Gate) -> None:
        """Take frames until they end."""
        self.lanes.clear()
        try:
            while True:
                try:
                    arrival = gate.next(self._foresight.wait_s())
                except queue.Empty:
                    self._clock.graph_s += self._foresight.do()
                    continue
                if arrival is None:
                    return
                self._take(arrival)
        finally:
            self._foresight.forget()

    def _take(self, arrival: Arrival) -> None:
        header = arrival.header
        started_s = time.monotonic()
        self._clock.receive_s += arrival.receive_s
        try:
            if header.operations:
                self._foresight.forget()
            self.lanes.apply(header.operations)
            if header.rows and not header.failure:
                self._compute(arrival, started_s)
            else:
                self._foresight.let_go()
                if header.failure or not self.shard.is_last:
                    self._pass_on(arrival, self._bare(header), started_s)
        except Exception as error:  # a step that cannot be computed fails its lane, not the stage
            log.exception("lane %d step %d failed", header.lane, header.step)
            self._foresight.let_go()
            self._pass_on(arrival, self._failure(header, error), started_s)
        self._frames += 1
        if self._frames % CLEAR_EVERY == 0:
            mx.clear_cache()

    def _pass_on(self, arrival: Arrival, frame: AnyFrame, started_s: float) -> None:
        """`frame` without computation."""
        turn = Turn(arrival.receive_s, arrival.arrived_s, started_s, started_s)
        self._outbox.put(Scheduled(lambda: None, lambda spent: frame, lambda error: frame, turn))

    def _failure(self, header: shard_pb2.FrameHeader, error: Exception) -> AnyFrame:
        """What says that the step of `header` could not be computed here."""
        header.failure = error.line if isinstance(error, MlxctlError) else f"{type(error).__name__}: {error}"
        header.failed_stage = self.stage
        return self._bare(header)

    def _bare(self, header: shard_pb2.FrameHeader) -> AnyFrame:
        """A frame without rows for the next stage, as tokens after a failed step were never drawn, or the result that
        reports its failure.
        """
        if not self.shard.is_last:
            bare = shard_pb2.FrameHeader(
                deployment=self.deployment,
                epoch=self.epoch,
                lane=header.lane,
                step=header.step,
                operations=header.operations,
                failure=header.failure,
                failed_stage=header.failed_stage,
            )
            return Frame(bare)
        result = self._result(header)
        result.failure, result.failed_stage = header.failure, header.failed_stage
        return Frame(result)

    def _compute(self, arrival: Arrival, started_s: float) -> None:
        header = arrival.header
        lane = self.lanes.at_step(header.lane, header.step, header.rows)
        fed, lane.fed = lane.fed, None
        form = StepForm.of(header) if self.stages > 1 else None
        built = None if form is None else self._foresight.take(form, arrival)
        if built is not None:
            self._clock.foreseen_steps += 1
        else:
            inbox = None if self.shard.is_first else _boundary(arrival)
            built = build_step(self.shard, lane.cache, _ids(header, fed), inbox, read_wanted(header))
        lane.fed = built.fed
        turn = Turn(arrival.receive_s, arrival.arrived_s, started_s, time.monotonic())
        self._clock.graph_s += turn.built_s - started_s
        built.schedule()
        scheduled = self._scheduled(header, built, turn)
        self._outbox.put(scheduled)
        if form is not None:
            self._foresight.sent(form, lane.cache, scheduled.sent)

    def _scheduled(self, header: shard_pb2.FrameHeader, built: BuiltStep, turn: Turn) -> Scheduled:
        def boundary_frame(spent: shard_pb2.StageTime) -> StepFrame:
            tensors = tuple(array_view(array) for array in built.waited)
            header.boundary = built.spec
            header.tensor_bytes[:] = [len(tensor) for tensor in tensors]
            header.times.append(spent)
            return Frame(header, tensors)

        def result_frame(spent: shard_pb2.StageTime) -> Frame[shard_pb2.ResultHeader]:
            result = self._result(header)
            if built.draw is not None:
                tokens = built.draw.tokens()
                if built.fed is not None:
                    built.fed.told.set_result(tokens)
                result.token_ids.extend(tokens)
                result.logprobs.extend(encode_logprobs(built.draw.logprobs(tokens)))
            result.times.extend([*header.times, spent])
            return Frame(result)

        def failure(error: Exception) -> AnyFrame:
            if built.fed is not None and not built.fed.told.done():
                built.fed.told.set_exception(error)  # the next step waits for what will not be drawn
            return self._failure(header, error)

        frame = result_frame if self.shard.is_last else boundary_frame
        return Scheduled(built.wait, frame, failure, turn)

    def _result(self, header: shard_pb2.FrameHeader) -> shard_pb2.ResultHeader:
        return shard_pb2.ResultHeader(deployment=self.deployment, epoch=self.epoch, lane=header.lane, step=header.step)


def _ids(header: shard_pb2.FrameHeader, fed: Fed | None) -> mx.array:
    """The step's token ids [rows, columns]. Raises CorruptFrame."""
    if not header.drawn:
        return mx.array(np.array(header.token_ids, dtype=np.int32).reshape(header.rows, header.columns))
    if fed is None:
        raise CorruptFrame(f"lane {header.lane} has drawn nothing that its step {header.step} could follow")
    return fed.ids()


def _boundary(arrival: Arrival) -> Any:
    tensors = [Tensor("uint8", (len(data),), data) for data in arrival.tensors]
    return decode_boundary(arrival.header.boundary, tensors)
