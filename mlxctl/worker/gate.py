"""Frames on their way from gRPC's threads to the MLX thread. Called by the service and by the runner.

The coordinator sends a lane's next frame before it knows the tokens that the last one draws; the last of several stages
tells them the first one directly, where that frame waits. Frames that do not wait may overtake those that do, but for
those whose operations touch a lane that waits.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

import mlx.core as mx

from mlxctl.rpc import shard_pb2
from mlxctl.wire.parts import Buffer


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame, what it took from its first part to its last, and when it could be taken up.

    Of `tensors`, the flat bytes of an activation's arrays, large ones are MLX's already.
    """

    header: shard_pb2.FrameHeader
    tensors: tuple[Buffer | mx.array, ...]
    receive_s: float
    arrived_s: float


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What the last stage drew, and when it came."""

    result: shard_pb2.ResultHeader
    arrived_s: float


class Gate:
    """One thread takes what is `next`, others put. `lanes` are the handles that exist on this stage; unless it `is_fed`
    no frame waits.
    """

    def __init__(self, lanes: Container[int], *, is_fed: bool) -> None:
        self._lanes = lanes
        self._is_fed = is_fed
        self._queue: queue.SimpleQueue[Arrival | _Drawn | None] = queue.SimpleQueue()
        self._waiting: deque[Arrival] = deque()
        self._ready: deque[Arrival] = deque()
        self._drawn: dict[int, _Drawn] = {}

    def put(self, item: Arrival | shard_pb2.ResultHeader | None) -> None:
        """A frame from the stage before, what the last stage drew, or the end."""
        self._queue.put(_Drawn(item, time.monotonic()) if isinstance(item, shard_pb2.ResultHeader) else item)

    def next(self, timeout_s: float | None = None) -> Arrival | None:
        """The next frame that can be computed; None at the end. Raises queue.Empty if nothing came for `timeout_s`."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ready:
            item = self._queue.get(timeout=None if until_s is None else max(0.0, until_s - time.monotonic()))
            if item is None:
                return None
            self._take(item)
        return self._ready.popleft()

    def _take(self, item: Arrival | _Drawn) -> None:
        if isinstance(item, Arrival) and not self._is_fed:
            self._ready.append(item)
            return
        if isinstance(item, Arrival):
            self._waiting.extend(_apart(item))
        elif item.result.lane in self._lanes:
            self._drawn[item.result.lane] = item
        self._ready.extend(self._released())

    def _released(self) -> Iterator[Arrival]:
        blocked: set[int] = set()
        kept: list[Arrival] = []
        while self._waiting:
            arrival = self._waiting.popleft()
            header = arrival.header
            if self._is_ready(header) and not _touched(header) & blocked:
                yield replace(arrival, arrived_s=max(arrival.arrived_s, self._forget(header)))
                continue
            kept.append(arrival)
            if not header.drawn:  # later frames may rely on its operations
                break
            blocked.add(header.lane)
        self._waiting.extendleft(reversed(kept))

    def _is_ready(self, header: shard_pb2.FrameHeader) -> bool:
        """Whether `header` has its tokens; gives them to it as soon as they are known."""
        drawn = self._drawn.get(header.lane) if header.drawn else None
        if drawn is not None and drawn.result.step + 1 == header.step:
            header.drawn = False
            header.token_ids.extend(drawn.result.token_ids)
            header.failure, header.failed_stage = drawn.result.failure, drawn.result.failed_stage
        return not header.drawn

    def _forget(self, header: shard_pb2.FrameHeader) -> float:
        """Forget what the frame of `header` was given; when the last of it came, or 0."""
        gone = [self._drawn.pop(handle, None) for handle in _touched(header)]
        return max((drawn.arrived_s for drawn in gone if drawn is not None), default=0.0)


def _apart(arrival: Arrival) -> list[Arrival]:
    """Operations need not wait for tokens: a frame that does gets one with its operations ahead of it."""
    header = arrival.header
    if not header.drawn or not header.operations:
        return [arrival]
    ahead = shard_pb2.FrameHeader(deployment=header.deployment, epoch=header.epoch, operations=header.operations)
    del header.operations[:]
    return [Arrival(ahead, (), 0.0, arrival.arrived_s), arrival]


def _touched(header: shard_pb2.FrameHeader) -> set[int]:
    """The lanes that a frame has to do with."""
    touched = {handle for operation in header.operations for handle in (operation.handle, *operation.others)}
    return touched | {header.lane} if header.rows else touched
