"""The caches of one stage by handle, and the operations that ride on frames. Called by the runner on the MLX thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlxctl.errors import CorruptFrame
from mlxctl.rpc import shard_pb2
from mlxctl.sharding import ShardCache
from mlxctl.worker.steps import Fed


@dataclass(slots=True)
class Lane:
    """The caches of one lane on this stage, the step that must come next; on an only stage what the last one drew."""

    cache: ShardCache
    next_step: int = 0
    fed: Fed | None = None


class Lanes:
    """All lanes of one stage. Whatever an operation cannot mean is a CorruptFrame."""

    def __init__(self, make_cache: Callable[[], ShardCache]) -> None:
        self._make_cache = make_cache
        self._lanes: dict[int, Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, handle: object) -> bool:
        return handle in self._lanes

    @property
    def nbytes(self) -> int:
        """What all caches hold on this stage."""
        return sum(lane.cache.nbytes for lane in list(self._lanes.values()))

    def clear(self) -> None:
        self._lanes.clear()

    def at_step(self, handle: int, step: int, rows: int) -> Lane:
        """The lane `handle`, for its step `step` of `rows` sequences, which is counted as begun."""
        lane = self._lane(handle)
        if lane.next_step != step:
            raise CorruptFrame(f"lane {handle} step {step} is out of order: step {lane.next_step} is next")
        if lane.cache.rows != rows:
            raise CorruptFrame(f"lane {handle} has {lane.cache.rows} sequences, the frame has {rows}")
        lane.next_step += 1
        return lane

    def apply(self, operations: Iterable[shard_pb2.CacheOperation]) -> None:
        """Carry `operations` out, in order."""
        for operation in operations:
            self._apply(operation)

    def _apply(self, operation: shard_pb2.CacheOperation) -> None:
        kinds, handle = shard_pb2.CacheOperation, operation.handle
        if operation.kind == kinds.NEW:
            self._add(handle, self._make_cache())
        elif operation.kind == kinds.FREE:
            self._lanes.pop(handle, None)
        elif operation.kind == kinds.COPY:
            self._add(handle, self._copied(operation))
        elif operation.kind == kinds.SPLIT:
            self._add(handle, self._changed(operation.others[0]).split(list(operation.rows)))
        elif operation.kind == kinds.JOIN:
            others = [self.cache(other) for other in operation.others]
            for other in operation.others:
                del self._lanes[other]
            self._changed(handle).join(others)
        elif operation.kind == kinds.KEEP:
            self._changed(handle).keep(list(operation.rows))
        else:
            raise CorruptFrame(f"unknown cache operation {operation.kind}")

    def _copied(self, operation: shard_pb2.CacheOperation) -> ShardCache:
        copied = self.cache(operation.others[0]).copy(operation.tokens)
        if copied is None:
            raise CorruptFrame(f"lane {operation.others[0]} cannot be cut to {operation.tokens} tokens")
        return copied

    def _add(self, handle: int, cache: ShardCache) -> None:
        if handle in self._lanes:
            raise CorruptFrame(f"lane {handle} is there already")
        self._lanes[handle] = Lane(cache)

    def _changed(self, handle: int) -> ShardCache:
        """The caches of `handle`, whose rows are about to be others than those that it drew for."""
        self._lane(handle).fed = None
        return self.cache(handle)

    def cache(self, handle: int) -> ShardCache:
        return self._lane(handle).cache

    def _lane(self, handle: int) -> Lane:
        try:
            return self._lanes[handle]
        except KeyError:
            raise CorruptFrame(f"there is no lane {handle}") from None
