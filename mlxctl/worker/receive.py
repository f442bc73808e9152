"""The receiving end of Put: bytes of one piece from a stream into the store. Called by the worker's service.

One thread takes messages and hashes them, another writes: a MiB takes about as long to hash as to decrypt or to write.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from google.protobuf.message import DecodeError

from mlxctl.errors import CorruptFrame
from mlxctl.rpc import shard_pb2
from mlxctl.worker.layer_store import LayerStore, PieceWriter

QUEUED_MESSAGES = 8


def receive_piece(
    store: LayerStore, messages: Iterator[bytes], still_wanted: Callable[[], bool]
) -> Iterator[shard_pb2.PutReply]:
    """Answer one Put. Raises CorruptFrame, StoreFull."""
    try:
        header = shard_pb2.PutHeader.FromString(next(messages, b""))
    except DecodeError as error:
        raise CorruptFrame("a piece without a header") from error
    with store.receive(header.weights, header.piece, header.size_bytes, still_wanted, header.sha256) as writer:
        if writer is not None:
            yield shard_pb2.PutReply(offset=writer.present_bytes)
            _write_all(messages, writer)
            writer.finish()
    yield shard_pb2.PutReply(offset=header.size_bytes, whole=True)


def _write_all(messages: Iterator[bytes], writer: PieceWriter) -> None:
    """Everything up to the stream's end into `writer`. Raises what writing raised."""
    pending: queue.Queue[bytes | None] = queue.Queue(QUEUED_MESSAGES)
    failures: list[Exception] = []

    def write() -> None:
        while (data := pending.get()) is not None:
            if failures:
                continue
            try:
                writer.append(data)
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=write, name="store", daemon=True)
    thread.start()
    try:
        for data in messages:
            writer.hash(data)
            pending.put(data)
            if failures:
                break
    finally:
        pending.put(None)
        thread.join()
    if failures:
        raise failures[0]
