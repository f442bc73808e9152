"""A piece's bytes from the hub straight into this node's store, and no others. Called by the worker's service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mlxctl.errors import CorruptFrame
from mlxctl.hub import HubAccess, HubClient
from mlxctl.rpc import shard_pb2
from mlxctl.sharding.origin import ByteRange, Origin
from mlxctl.worker.layer_store import LayerStore

TELL_EVERY_BYTES = 1 << 20


def fetch_piece(
    store: LayerStore, request: shard_pb2.FetchRequest, still_wanted: Callable[[], bool]
) -> Iterator[shard_pb2.PutReply]:
    """Answer one Fetch. Raises CorruptFrame, StoreFull, CheckpointError, AuthenticationError, HubUnreachable."""
    origin = _origin(store, request)
    told_bytes = 0
    with store.receive(request.weights, request.piece, request.size_bytes, still_wanted) as writer:
        if writer is not None:
            yield shard_pb2.PutReply(offset=writer.present_bytes)
            told_bytes = writer.present_bytes
            with HubClient(HubAccess(request.endpoint, request.token)) as hub:

                def read(part: ByteRange) -> Iterator[bytes]:
                    return hub.read(origin.repo, origin.commit, part.file, part.start, part.stop)

                for data in origin.sources[request.piece].chunks(read, writer.present_bytes):
                    if not still_wanted():
                        raise CorruptFrame("the coordinator is gone")
                    writer.write(data)
                    if writer.present_bytes - told_bytes >= TELL_EVERY_BYTES:
                        yield shard_pb2.PutReply(offset=writer.present_bytes)
                        told_bytes = writer.present_bytes
            writer.finish()
    yield shard_pb2.PutReply(offset=request.size_bytes, whole=True)


def _origin(store: LayerStore, request: shard_pb2.FetchRequest) -> Origin:
    """Where the piece is. Raises CorruptFrame if the store's manifest does not say."""
    manifest = store.manifest(request.weights)
    if manifest is None or manifest.origin is None or request.piece not in manifest.origin.sources:
        raise CorruptFrame(f"{request.piece[:80]!r} is not a piece that comes from a hub")
    return manifest.origin
