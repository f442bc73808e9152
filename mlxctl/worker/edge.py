"""Outgoing frames of a stage: scheduled by the MLX thread, turned into bytes by the thread that sends them."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from mlxctl.rpc import shard_pb2
from mlxctl.wire.frames import Frame
from mlxctl.wire.identity import Identity
from mlxctl.wire.parts import split
from mlxctl.wire.service import ShardStub, channel, rpc_error

log = logging.getLogger(__name__)

_MOST_US = 2**32 - 1  # a stage may wait for longer, and says so much
AnyFrame = Frame[shard_pb2.FrameHeader] | Frame[shard_pb2.ResultHeader]


@dataclass(frozen=True, slots=True)
class Turn:
    """When a frame had come whole, `receive_s` after its first part, was taken up, and its graph was there."""

    receive_s: float
    arrived_s: float
    started_s: float
    built_s: float


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A frame whose arrays the device may still be computing: `wait` for them, then `frame` makes it, given what the
    stage spent, or `failure` the one that says why there is none.
    """

    wait: Callable[[], None]
    frame: Callable[[shard_pb2.StageTime], AnyFrame]
    failure: Callable[[Exception], AnyFrame]
    turn: Turn
    sent: threading.Event = field(default_factory=threading.Event)


class StepClock:
    """Where this stage's time goes, in seconds since the load. Each field is written by one thread."""

    def __init__(self) -> None:
        self.steps = 0
        self.foreseen_steps = 0
        self.receive_s = 0.0
        self.graph_s = 0.0
        self.busy_s = 0.0
        self.serialize_s = 0.0
        self.sent_bytes = 0
        self._last_s = 0.0
        self._last_serialize_s = 0.0

    def computed(self, turn: Turn) -> shard_pb2.StageTime:
        """Count a step that has just ended; what it took, overlaps left out."""
        now_s, last_s = time.monotonic(), self._last_s or turn.arrived_s
        step_s = now_s - max(turn.started_s, last_s)
        spent = shard_pb2.StageTime(
            compute_us=_us(step_s),
            receive_us=_us(turn.receive_s),
            wait_us=_us(turn.arrived_s - last_s),
            queue_us=_us(max(turn.started_s, last_s) - turn.arrived_s),
            graph_us=_us(turn.built_s - turn.started_s),
            eval_us=_us(now_s - max(turn.built_s, last_s)),
            serialize_us=_us(self.serialize_s - self._last_serialize_s),
        )
        self._last_s, self._last_serialize_s = now_s, self.serialize_s
        self.busy_s += step_s
        self.steps += 1
        return spent

    def message(self) -> shard_pb2.Profile:
        return shard_pb2.Profile(
            receive_s=self.receive_s,
            graph_s=self.graph_s,
            busy_s=self.busy_s,
            serialize_s=self.serialize_s,
            sent_bytes=self.sent_bytes,
            foreseen_steps=self.foreseen_steps,
        )


class Outbox:
    """Frames on their way out, in order. One thread puts, one iterates `parts`; on the last stage of several one
    iterates `fed_parts` and another one `result_parts`.
    """

    def __init__(self, epoch: int, clock: StepClock) -> None:
        self.clock = clock
        self._epoch = epoch
        self._queue: queue.SimpleQueue[Scheduled | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[AnyFrame | None] = queue.SimpleQueue()
        self._ids = itertools.count()

    def put(self, scheduled: Scheduled) -> None:
        self._queue.put(scheduled)

    def close(self) -> None:
        """End the iteration once what was put before has gone."""
        self._queue.put(None)

    def parts(self) -> Iterator[bytes]:
        """Yield the parts of each frame once its arrays are there."""
        for frame in self._frames():
            for part in self._timed(self._split(frame)):
                self.clock.sent_bytes += len(part)
                yield part

    def fed_parts(self) -> Iterator[bytes]:
        """Yield the parts of what the first stage needs of each result, once its arrays are there."""
        for frame in self._frames():
            header = frame.header
            assert isinstance(header, shard_pb2.ResultHeader)
            self._results.put(frame)  # first: a part that was yielded has to be sent before this goes on
            if header.token_ids or header.failure:
                yield from self._timed(self._split(Frame(_bare(header))))
        self._results.put(None)

    def result_parts(self) -> Iterator[bytes]:
        """Yield the parts of each result after `fed_parts`."""
        while (frame := self._results.get()) is not None:
            for part in self._split(frame):
                self.clock.sent_bytes += len(part)
                yield part

    def _frames(self) -> Iterator[AnyFrame]:
        while (scheduled := self._queue.get()) is not None:
            yield self._frame(scheduled)
            scheduled.sent.set()

    def _frame(self, scheduled: Scheduled) -> AnyFrame:
        try:
            scheduled.wait()
            spent = self.clock.computed(scheduled.turn)
            began_s = time.monotonic()
            frame = scheduled.frame(spent)
        except Exception as error:  # a step that cannot be computed fails its lane, not the stage
            log.exception("a step failed")
            return scheduled.failure(error)
        self.clock.serialize_s += time.monotonic() - began_s
        return frame

    def _timed(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        began_s = time.monotonic()
        for part in parts:
            self.clock.serialize_s += time.monotonic() - began_s
            yield part
            began_s = time.monotonic()

    def _split(self, frame: AnyFrame) -> Iterator[bytes]:
        return split(frame.buffers(), epoch=self._epoch, frame_id=next(self._ids))


def _us(seconds: float) -> int:
    return min(max(0, round(seconds * 1e6)), _MOST_US)


def _bare(result: shard_pb2.ResultHeader) -> shard_pb2.ResultHeader:
    return shard_pb2.ResultHeader(
        deployment=result.deployment,
        epoch=result.epoch,
        lane=result.lane,
        step=result.step,
        token_ids=result.token_ids,
        failure=result.failure,
        failed_stage=result.failed_stage,
    )


class Edge:
    """The open stream from this stage to the next one, or from the last one to `feed` the first.

    `on_broken` is told why it ended if it was not closed here; on a thread of gRPC's.
    """

    def __init__(
        self,
        address: str,
        server_name: str,
        identity: Identity,
        outbox: Outbox,
        deployment: str,
        *,
        feed: bool,
        on_broken: Callable[[str], None],
    ) -> None:
        self._outbox = outbox
        self._on_broken = on_broken
        self._address = address
        self._channel = channel(address, server_name, identity)
        stub = ShardStub(self._channel)
        open_stream, parts = (stub.feed, outbox.fed_parts()) if feed else (stub.forward, outbox.parts())
        self._call = open_stream(parts, metadata=(("deployment", deployment),))

    def wait_until_open(self, timeout_s: float) -> None:
        """Return once the successor accepted the stream. Raises grpc.FutureTimeoutError or grpc.RpcError."""
        grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        self._call.initial_metadata()
        self._call.add_done_callback(self._ended)

    def _ended(self, call: grpc.Future) -> None:
        if not call.cancelled() and call.exception() is not None:
            reason = rpc_error(call.exception())
            log.error("the edge to %s broke: %s", self._address, reason)
            self._on_broken(reason)

    def close(self) -> None:
        self._outbox.close()
        self._call.cancel()
        self._channel.close()
