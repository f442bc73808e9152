"""Outgoing frames of a stage: scheduled by the MLX thread, turned into bytes by the thread that sends them."""

from __future__ import annotations

import itertools
import logging
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from mlxctl.rpc import shard_pb2
from mlxctl.wire.frames import Frame
from mlxctl.wire.identity import Identity
from mlxctl.wire.parts import split
from mlxctl.wire.service import ShardStub, channel, rpc_error

log = logging.getLogger(__name__)

AnyFrame = Frame[shard_pb2.FrameHeader] | Frame[shard_pb2.ResultHeader]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A frame whose arrays the device may still be computing: `wait` for them, then `frame(compute_us)` makes it.

    The stage took it up at `started_s`.
    """

    wait: Callable[[], None]
    frame: Callable[[int], AnyFrame]
    started_s: float


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

    def computed(self, started_s: float) -> float:
        """Count a step that was taken up at `started_s` and has just ended; its seconds, overlaps left out."""
        now_s = time.monotonic()
        step_s = now_s - max(started_s, self._last_s)
        self._last_s = now_s
        self.busy_s += step_s
        self.steps += 1
        return step_s

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
    """Frames on their way out, in order. One thread puts, one thread iterates the parts."""

    def __init__(self, epoch: int, clock: StepClock) -> None:
        self.clock = clock
        self._epoch = epoch
        self._queue: queue.SimpleQueue[Scheduled | None] = queue.SimpleQueue()
        self._ids = itertools.count()

    def put(self, scheduled: Scheduled) -> None:
        self._queue.put(scheduled)

    def close(self) -> None:
        """End the iteration once what was put before has gone."""
        self._queue.put(None)

    def parts(self) -> Iterator[bytes]:
        """Yield the parts of each frame once its arrays are there."""
        while (scheduled := self._queue.get()) is not None:
            scheduled.wait()
            compute_s = self.clock.computed(scheduled.started_s)
            began_s = time.monotonic()
            frame = scheduled.frame(round(compute_s * 1e6))
            for part in split(frame.buffers(), epoch=self._epoch, frame_id=next(self._ids)):
                self.clock.serialize_s += time.monotonic() - began_s
                self.clock.sent_bytes += len(part)
                yield part
                began_s = time.monotonic()


class Edge:
    """The open stream from this stage to the next one."""

    def __init__(self, address: str, server_name: str, identity: Identity, outbox: Outbox, deployment: str) -> None:
        self._outbox = outbox
        self._address = address
        self._channel = channel(address, server_name, identity)
        self._call = ShardStub(self._channel).forward(outbox.parts(), metadata=(("deployment", deployment),))

    def wait_until_open(self, timeout_s: float) -> None:
        """Return once the successor accepted the stream. Raises grpc.FutureTimeoutError or grpc.RpcError."""
        grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        self._call.initial_metadata()
        self._call.add_done_callback(self._ended)

    def _ended(self, call: grpc.Future) -> None:
        if not call.cancelled() and call.exception() is not None:
            log.error("the edge to %s broke: %s", self._address, rpc_error(call.exception()))

    def close(self) -> None:
        self._outbox.close()
        self._call.cancel()
        self._channel.close()
