"""Sends one piece of a model to one node, from where an earlier attempt stopped. Used by the weights phase."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import grpc

from mlxctl.checkpoint import ModelWeights
from mlxctl.errors import StoreFull
from mlxctl.launch.stages import StageConnection
from mlxctl.rpc import shard_pb2

ATTEMPTS = 2  # a piece that arrived damaged is sent once more, from its beginning

OnSent = Callable[[int], None]


class Transfer:
    """Puts of one node. `cancel`, from any thread, ends the running one; what the node has by then it keeps."""

    def __init__(self, connection: StageConnection, weights: ModelWeights, on_sent: OnSent) -> None:
        self._connection = connection
        self._weights = weights
        self._on_sent = on_sent
        self._call: grpc.Call | None = None
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    def send(self, piece: str, size_bytes: int) -> None:
        """Return when the node has `piece` whole; `on_sent` is given the bytes of each message.

        Raises StoreFull, or LaunchError naming the node.
        """
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
        self._call = self._connection.stub.put(self._messages(header, offsets))
        if self._cancelled:
            self._call.cancel()
        try:
            for reply in self._call:
                offsets.put(None if reply.whole else reply.offset)
        finally:
            offsets.put(None)  # the thread that sends must not wait for ever

    def _messages(self, header: shard_pb2.PutHeader, offsets: queue.SimpleQueue[int | None]) -> Iterator[bytes]:
        yield header.SerializeToString()
        offset = offsets.get()
        if offset is None:
            return
        for chunk in self._weights.chunks(header.piece, offset):
            yield chunk
            self._on_sent(len(chunk))

    def _error(self, piece: str, error: grpc.RpcError) -> Exception:
        stage = self._connection.stage
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return StoreFull(error.details(), node=stage.node, stage=stage.index)
        return self._connection.launch_error(f"sending {piece} failed", error)
