"""Brings pieces of a model to one node, each from where an earlier attempt stopped: what this machine has it sends, the
rest the node reads from the hub, or, if it cannot reach it, through this machine. Used by the weights phase.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from mlxctl.checkpoint import ModelWeights
from mlxctl.errors import StoreFull
from mlxctl.hub import access_from_environment
from mlxctl.launch.stages import StageConnection
from mlxctl.rpc import shard_pb2

PARALLEL_PUTS = 2  # so that one piece is synced to the node's disk while the next is on its way
PARALLEL_FETCHES = 4  # a hub gives each connection a part of what the line carries
ATTEMPTS = 2  # a piece that arrived damaged is sent once more, from its beginning

OnMoved = Callable[[int], None]


class Transfer:
    """Puts and fetches of one node. `sent_bytes` counts what went out from here, `fetched_bytes` what the node got from
    the hub; `on_moved` is told the sum as it grows.
    """

    def __init__(self, connection: StageConnection, weights: ModelWeights, on_moved: OnMoved) -> None:
        self._connection = connection
        self._weights = weights
        self._on_moved = on_moved
        self._access = access_from_environment()
        self.sent_bytes = 0
        self.fetched_bytes = 0
        self.reaches_hub = True
        self._lock = threading.Lock()
        self._calls: list[grpc.Call] = []
        self._cancelled = False

    def cancel(self) -> None:
        """End what is being sent, from any thread; what the node has by then it keeps."""
        with self._lock:
            self._cancelled = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def send(self, pieces: Mapping[str, int]) -> None:
        """Return when the node has all `pieces` (with their sizes) whole; the model's manifest must be there.

        Raises StoreFull, or LaunchError naming the node.
        """
        here = all(self._weights.is_here(piece) for piece in pieces)
        with ThreadPoolExecutor(PARALLEL_PUTS if here else PARALLEL_FETCHES, thread_name_prefix="put") as pool:
            sent = [pool.submit(self.send_one, piece, size_bytes) for piece, size_bytes in pieces.items()]
            try:
                for future in sent:
                    future.result()
            except BaseException:
                self.cancel()
                raise

    def send_one(self, piece: str, size_bytes: int) -> None:
        """Return when the node has `piece` whole. Raises as `send` does."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(piece, size_bytes)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.DATA_LOSS and attempt < ATTEMPTS:
                    continue
                raise self._error(piece, error) from error

    def _attempt(self, piece: str, size_bytes: int) -> None:
        if self._weights.is_here(piece) or not self.reaches_hub:
            return self._put(piece, size_bytes)
        try:
            return self._fetch(piece, size_bytes)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self.reaches_hub = False
            return self._put(piece, size_bytes)

    def _put(self, piece: str, size_bytes: int) -> None:
        key = self._weights.manifest.key
        header = shard_pb2.PutHeader(weights=key, piece=piece, size_bytes=size_bytes, sha256=self._sha256(piece))
        offsets: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        try:
            with self._running(self._connection.bulk.put(self._messages(header, offsets))) as call:
                for reply in call:
                    offsets.put(None if reply.whole else reply.offset)
        finally:
            offsets.put(None)  # the thread that sends must not wait for ever

    def _fetch(self, piece: str, size_bytes: int) -> None:
        request = shard_pb2.FetchRequest(
            weights=self._weights.manifest.key,
            piece=piece,
            size_bytes=size_bytes,
            endpoint=self._access.endpoint,
            token=self._access.token,
        )
        before = None
        with self._running(self._connection.stub.fetch(request)) as call:
            for reply in call:
                if before is not None:
                    self._count(fetched=reply.offset - before)
                before = reply.offset

    @contextmanager
    def _running(self, call: Any) -> Iterator[Any]:
        """`call` while it can be cancelled."""
        with self._lock:
            self._calls.append(call)
            cancelled = self._cancelled
        if cancelled:
            call.cancel()
        try:
            yield call
        finally:
            with self._lock:
                self._calls.remove(call)

    def _sha256(self, piece: str) -> str:
        """What the manifest lacks."""
        entry = next((entry for entry in self._weights.manifest.pieces if entry.name == piece), None)
        return "" if entry is None or entry.sha256 else self._weights.sha256(entry)

    def _count(self, sent: int = 0, fetched: int = 0) -> None:
        with self._lock:
            self.sent_bytes += sent
            self.fetched_bytes += fetched
            moved = self.sent_bytes + self.fetched_bytes
        self._on_moved(moved)

    def _messages(self, header: shard_pb2.PutHeader, offsets: queue.SimpleQueue[int | None]) -> Iterator[bytes]:
        yield header.SerializeToString()
        offset = offsets.get()
        if offset is None:
            return
        for chunk in self._weights.chunks(header.piece, offset):
            yield chunk
            self._count(sent=len(chunk))

    def _error(self, piece: str, error: grpc.RpcError) -> Exception:
        stage = self._connection.stage
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return StoreFull(error.details(), node=stage.node, stage=stage.index)
        return self._connection.launch_error(f"bringing {piece} failed", error)
