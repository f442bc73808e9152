"""Sends pieces of a model to one node, each from where an earlier attempt stopped. Used by the weights phase."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from mlxctl.checkpoint import ModelWeights
from mlxctl.errors import StoreFull
from mlxctl.launch.stages import StageConnection
from mlxctl.rpc import shard_pb2

PARALLEL = 2  # so that one piece is synced to the node's disk while the next is on its way
ATTEMPTS = 2  # a piece that arrived damaged is sent once more, from its beginning

OnSent = Callable[[int], None]


class Transfer:
    """Puts of one node. `sent_bytes` counts what went out; `on_sent` is told it, a message at a time."""

    def __init__(self, connection: StageConnection, weights: ModelWeights, on_sent: OnSent) -> None:
        self._connection = connection
        self._weights = weights
        self._on_sent = on_sent
        self.sent_bytes = 0
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
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="put") as pool:
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
        header = shard_pb2.PutHeader(weights=self._weights.manifest.key, piece=piece, size_bytes=size_bytes)
        offsets: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        call = self._connection.stub.put(self._messages(header, offsets))
        with self._lock:
            self._calls.append(call)
            cancelled = self._cancelled
        if cancelled:
            call.cancel()
        try:
            for reply in call:
                offsets.put(None if reply.whole else reply.offset)
        finally:
            offsets.put(None)  # the thread that sends must not wait for ever
            self._calls.remove(call)

    def _messages(self, header: shard_pb2.PutHeader, offsets: queue.SimpleQueue[int | None]) -> Iterator[bytes]:
        yield header.SerializeToString()
        offset = offsets.get()
        if offset is None:
            return
        for chunk in self._weights.chunks(header.piece, offset):
            yield chunk
            with self._lock:
                self.sent_bytes += len(chunk)
            self._on_sent(self.sent_bytes)

    def _error(self, piece: str, error: grpc.RpcError) -> Exception:
        stage = self._connection.stage
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return StoreFull(error.details(), node=stage.node, stage=stage.index)
        return self._connection.launch_error(f"sending {piece} failed", error)
