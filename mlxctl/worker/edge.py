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
    """A frame whose arrays the device may still be computing: `finish` waits for them. Started at `started_s`."""

    finish: Callable[[], AnyFrame]
    started_s: float


class BusyClock:
    """Seconds in which this stage had something to compute, overlaps counted once. Written by one thread."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self.steps = 0
        self._last_s = 0.0

    def add(self, started_s: float) -> None:
        """Count a step that began at `started_s` and has just ended."""
        now_s = time.monotonic()
        self.busy_s += now_s - max(started_s, self._last_s)
        self._last_s = now_s
        self.steps += 1


class Outbox:
    """Frames on their way out, in order. One thread puts, one thread iterates the parts."""

    def __init__(self, epoch: int, clock: BusyClock) -> None:
        self._epoch = epoch
        self._clock = clock
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
            frame = scheduled.finish()
            self._clock.add(scheduled.started_s)
            yield from split(frame.buffers(), epoch=self._epoch, frame_id=next(self._ids))


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
