"""The MLX thread of a worker: loads the shard, then takes frames from the stream and schedules their computation.

MLX streams belong to a thread and lazy arrays cannot cross threads, so that everything which builds a graph happens
here. Nothing here waits for the device: `async_eval`, then the sender waits for the arrays (mlxctl/worker/edge.py).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from mlxctl.errors import CorruptFrame, ForeignFrame, MlxctlError
from mlxctl.request import Sampling
from mlxctl.rpc import shard_pb2
from mlxctl.sharding import (
    LoadProgress,
    Shard,
    ShardCache,
    Tensor,
    TensorHeader,
    decode_boundary,
    encode_boundary,
    load_model,
    sample,
)
from mlxctl.wire.frames import Frame, parse_step
from mlxctl.wire.parts import Assembler
from mlxctl.worker.edge import Outbox, Scheduled
from mlxctl.worker.memory import hold_to

log = logging.getLogger(__name__)

T = TypeVar("T")
StepFrame = Frame[shard_pb2.FrameHeader]


class MlxThread:
    """One named thread that runs what is submitted to it, in order."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mlx", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, future = entry
            try:
                future.set_result(job())
            except BaseException as error:  # whatever it is belongs to the waiting caller
                future.set_exception(error)


@dataclass(slots=True)
class Lane:
    """One lane's caches on this stage and the step that must come next."""

    cache: ShardCache
    next_step: int = 0


class Runner:
    """A loaded shard with its lanes. All methods but the properties run on the MLX thread."""

    def __init__(self, deployment: str, epoch: int, stage: int, shard: Shard, outbox: Outbox) -> None:
        self.deployment = deployment
        self.epoch = epoch
        self.stage = stage
        self.shard = shard
        self.lanes: dict[int, Lane] = {}
        self._outbox = outbox

    @classmethod
    def load(
        cls,
        request: shard_pb2.LoadRequest,
        folder: Path,
        absent: Mapping[str, TensorHeader],
        outbox: Outbox,
        on_progress: Callable[[LoadProgress], None],
    ) -> Runner:
        """Load the shard from `folder`, which need not hold the tensors `absent`, and run it once. Raises
        CheckpointError, IllegalCut.
        """
        hold_to(request.memory_limit_bytes)
        shard = load_model(folder, request.start, request.stop, on_progress=on_progress, absent=absent)
        shard.warm_up()
        mx.clear_cache()
        return cls(request.deployment, request.epoch, request.stage, shard, outbox)

    @property
    def cache_bytes(self) -> int:
        """What all lanes' caches hold on this stage."""
        return sum(lane.cache.nbytes for lane in list(self.lanes.values()))

    def serve(self, parts: Iterator[bytes]) -> None:
        """Take frames until the stream ends. Raises WireError on the first part that is not ours."""
        assembler = Assembler(self.epoch)
        self.lanes.clear()
        for part in parts:
            data = assembler.add(part)
            if data is not None:
                self._take(parse_step(data))

    def _take(self, frame: StepFrame) -> None:
        header = frame.header
        if header.deployment != self.deployment or header.epoch != self.epoch:
            raise ForeignFrame(f"a frame of {header.deployment}, epoch {header.epoch}; this is {self.deployment}")
        started_s = time.monotonic()
        try:
            self._apply(header)
            finish = self._compute(frame) if header.rows and not header.failure else self._passed_on(header)
        except Exception as error:  # a step that cannot be computed fails its lane, not the stage
            log.exception("lane %d step %d failed", header.lane, header.step)
            header.failure = error.line if isinstance(error, MlxctlError) else f"{type(error).__name__}: {error}"
            header.failed_stage = self.stage
            finish = self._passed_on(header)
        if finish is not None:
            self._outbox.put(Scheduled(finish, started_s))

    def _apply(self, header: shard_pb2.FrameHeader) -> None:
        kinds = shard_pb2.CacheOperation
        for operation in header.operations:
            if operation.kind == kinds.NEW:
                self.lanes[operation.lane] = Lane(self.shard.make_cache())
            elif operation.kind == kinds.FREE:
                self.lanes.pop(operation.lane, None)
            else:
                raise CorruptFrame(f"unknown cache operation {operation.kind}")

    def _passed_on(self, header: shard_pb2.FrameHeader) -> Callable[[], Any] | None:
        """A frame without computation: on to the next stage, or a result if it reports a failure."""
        if not self.shard.is_last:
            del header.tensor_bytes[:]
            return lambda: Frame(header)
        if not header.failure:
            return None
        result = self._result(header)
        result.failure, result.failed_stage = header.failure, header.failed_stage
        return lambda: Frame(result)

    def _compute(self, frame: StepFrame) -> Callable[[], Any]:
        header = frame.header
        lane = self.lanes.get(header.lane)
        if lane is None or lane.next_step != header.step:
            expected = "no such lane" if lane is None else f"step {lane.next_step} is next"
            raise CorruptFrame(f"lane {header.lane} step {header.step} is out of order: {expected}")
        lane.next_step += 1
        ids = np.array(header.token_ids, dtype=np.int32).reshape(header.rows, header.columns)
        inbox = None if self.shard.is_first else _boundary(frame)
        output = self.shard.forward(mx.array(ids), inbox, lane.cache)
        if self.shard.is_last:
            return self._finish_result(header, output.logits, lane.cache)
        return self._finish_step(header, output.boundary, lane.cache)

    def _finish_step(self, header: shard_pb2.FrameHeader, boundary: Any, cache: ShardCache) -> Callable[[], StepFrame]:
        spec, arrays = encode_boundary(boundary)
        _schedule(arrays, cache.arrays())

        def finish() -> StepFrame:
            tensors = tuple(_bytes(array) for array in arrays)
            header.boundary = spec
            header.tensor_bytes[:] = [len(tensor) for tensor in tensors]
            return Frame(header, tensors)

        return finish

    def _finish_result(self, header: shard_pb2.FrameHeader, logits: Any, cache: ShardCache) -> Callable[[], Any]:
        result = self._result(header)
        if header.sampling:
            rows = [_sampling(entry) for entry in header.sampling]
            waited = sample(logits[:, -1, :], rows, list(header.positions))
            _schedule(waited, cache.arrays())
        else:  # nothing to send, so wait for a single element of what was computed
            states = cache.arrays()
            waited = states[-1].reshape(-1)[:1].astype(mx.float32)
            _schedule(waited, states)

        def finish() -> Frame[shard_pb2.ResultHeader]:
            values = _bytes(waited)
            if header.sampling:
                result.token_ids.extend(values.tolist())
            return Frame(result)

        return finish

    def _result(self, header: shard_pb2.FrameHeader) -> shard_pb2.ResultHeader:
        return shard_pb2.ResultHeader(deployment=self.deployment, epoch=self.epoch, lane=header.lane, step=header.step)


def _schedule(*arrays: Any) -> None:
    """Start computing `arrays` without waiting for them."""
    schedule: Any = mx.async_eval  # untyped in mlx's stubs
    schedule(*arrays)


def _bytes(array: Any) -> memoryview:
    """The elements of a scheduled array: waits for them, copies nothing."""
    return memoryview(array)


def _boundary(frame: StepFrame) -> Any:
    tensors = [Tensor("uint8", (len(data),), memoryview(data)) for data in frame.tensors]
    return decode_boundary(frame.header.boundary, tensors)


def _sampling(entry: shard_pb2.Sampling) -> Sampling:
    return Sampling(entry.temperature, entry.top_k, entry.top_p, entry.min_p, entry.seed)
