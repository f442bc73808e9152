"""The MLX thread of a worker: loads the shard, then takes frames from the stream and schedules their computation.

MLX streams belong to a thread and lazy arrays cannot cross threads, so that everything which builds a graph happens
here. Nothing here waits for the device: `async_eval`, then the sender waits for the arrays (mlxctl/worker/edge.py).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from mlxctl.errors import ForeignFrame, MlxctlError
from mlxctl.rpc import shard_pb2
from mlxctl.sharding import (
    Draw,
    LoadProgress,
    Shard,
    Tensor,
    TensorHeader,
    decode_boundary,
    encode_boundary,
    load_model,
    sample,
)
from mlxctl.wire.frames import Frame, parse_step
from mlxctl.wire.parts import Assembler
from mlxctl.wire.sampling import decode_wanted, encode_logprobs
from mlxctl.worker.edge import AnyFrame, Outbox, Scheduled
from mlxctl.worker.lanes import Lanes
from mlxctl.worker.memory import hold_to

log = logging.getLogger(__name__)

CLEAR_EVERY = 256  # frames, as mlx-lm does: freed buffers of sizes that no longer come

T = TypeVar("T")
StepFrame = Frame[shard_pb2.FrameHeader]
Finish = tuple[Callable[[], None], Callable[[int], AnyFrame]]


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


class Runner:
    """A loaded shard with its lanes. All methods but the properties run on the MLX thread."""

    def __init__(self, deployment: str, epoch: int, stage: int, shard: Shard, outbox: Outbox) -> None:
        self.deployment = deployment
        self.epoch = epoch
        self.stage = stage
        self.shard = shard
        self.lanes = Lanes(shard.make_cache)
        self._outbox = outbox
        self._clock = outbox.clock
        self._frames = 0

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
        shard.quantize_caches(request.kv_bits, request.kv_group_size)
        shard.warm_up()
        mx.clear_cache()
        return cls(request.deployment, request.epoch, request.stage, shard, outbox)

    def serve(self, parts: Iterator[bytes]) -> None:
        """Take frames until the stream ends. Raises WireError on the first part that is not ours."""
        assembler = Assembler(self.epoch)
        self.lanes.clear()
        began_s = 0.0
        for part in parts:
            began_s = began_s or time.monotonic()
            data = assembler.add(part)
            if data is not None:
                self._take(parse_step(data), began_s)
                began_s = 0.0

    def _take(self, frame: StepFrame, began_s: float) -> None:
        header = frame.header
        if header.deployment != self.deployment or header.epoch != self.epoch:
            raise ForeignFrame(f"a frame of {header.deployment}, epoch {header.epoch}; this is {self.deployment}")
        started_s = time.monotonic()
        self._clock.receive_s += started_s - began_s
        scheduled: Scheduled | None
        try:
            changed = self.lanes.apply(header.operations, header.lane)
            if header.rows and not header.failure:
                scheduled = self._compute(frame, changed, round((started_s - began_s) * 1e6), started_s)
            else:
                _schedule(changed)
                scheduled = self._passed_on(header, started_s)
        except Exception as error:  # a step that cannot be computed fails its lane, not the stage
            log.exception("lane %d step %d failed", header.lane, header.step)
            header.failure = error.line if isinstance(error, MlxctlError) else f"{type(error).__name__}: {error}"
            header.failed_stage = self.stage
            scheduled = self._passed_on(header, started_s)
        self._clock.graph_s += time.monotonic() - started_s
        self._frames += 1
        if self._frames % CLEAR_EVERY == 0:
            mx.clear_cache()
        if scheduled is not None:
            self._outbox.put(scheduled)

    def _passed_on(self, header: shard_pb2.FrameHeader, started_s: float) -> Scheduled | None:
        """A frame without computation: on to the next stage, or a result if it reports a failure."""
        frame: AnyFrame
        if not self.shard.is_last:
            del header.tensor_bytes[:]
            frame = Frame(header)
        elif header.failure:
            result = self._result(header)
            result.failure, result.failed_stage = header.failure, header.failed_stage
            frame = Frame(result)
        else:
            return None
        return Scheduled(lambda: None, lambda compute_us: frame, started_s)

    def _compute(self, frame: StepFrame, changed: list[Any], receive_us: int, started_s: float) -> Scheduled:
        header = frame.header
        cache = self.lanes.at_step(header.lane, header.step, header.rows)
        ids = np.array(header.token_ids, dtype=np.int32).reshape(header.rows, header.columns)
        inbox = None if self.shard.is_first else _boundary(frame)
        output = self.shard.forward(mx.array(ids), inbox, cache)
        header.times.add(receive_us=receive_us)
        if self.shard.is_last:
            wait, made = self._finish_result(header, output.logits, [*cache.arrays(), *changed])
        else:
            wait, made = self._finish_step(header, output.boundary, [*cache.arrays(), *changed])
        return Scheduled(wait, made, started_s)

    def _finish_step(self, header: shard_pb2.FrameHeader, boundary: Any, states: list[Any]) -> Finish:
        spec, arrays = encode_boundary(boundary)
        _schedule(arrays, states)

        def frame(compute_us: int) -> StepFrame:
            tensors = tuple(_bytes(array) for array in arrays)
            header.boundary = spec
            header.tensor_bytes[:] = [len(tensor) for tensor in tensors]
            header.times[-1].compute_us = compute_us
            return Frame(header, tensors)

        return partial(_wait, arrays), frame

    def _finish_result(self, header: shard_pb2.FrameHeader, logits: Any, states: list[Any]) -> Finish:
        result = self._result(header)
        draw: Draw | None = None
        if header.sampling:
            rows = [decode_wanted(entry) for entry in header.sampling]
            draw = sample(
                logits[:, -1, :], [r.sampling for r in rows], [r.position for r in rows], [r.recent for r in rows]
            )
            waited = draw.arrays
        else:  # nothing to send, so wait for a single element of what was computed
            waited = [states[-1].reshape(-1)[:1].astype(mx.float32)]
        _schedule(waited, states)

        def frame(compute_us: int) -> Frame[shard_pb2.ResultHeader]:
            if draw is not None:
                tokens = draw.tokens()
                result.token_ids.extend(tokens)
                result.logprobs.extend(encode_logprobs(draw.logprobs(tokens)))
            header.times[-1].compute_us = compute_us
            result.times.extend(header.times)
            return Frame(result)

        return partial(_wait, waited), frame

    def _result(self, header: shard_pb2.FrameHeader) -> shard_pb2.ResultHeader:
        return shard_pb2.ResultHeader(deployment=self.deployment, epoch=self.epoch, lane=header.lane, step=header.step)


def _schedule(*arrays: Any) -> None:
    """Start computing `arrays` without waiting for them."""
    schedule: Any = mx.async_eval  # untyped in mlx's stubs
    schedule(*arrays)


def _wait(arrays: Sequence[Any]) -> None:
    """Return once the scheduled `arrays` are there."""
    for array in arrays:
        _bytes(array)


def _bytes(array: Any) -> memoryview:
    """The elements of a scheduled array: waits for them, copies nothing."""
    return memoryview(array)


def _boundary(frame: StepFrame) -> Any:
    tensors = [Tensor("uint8", (len(data),), memoryview(data)) for data in frame.tensors]
    return decode_boundary(frame.header.boundary, tensors)
