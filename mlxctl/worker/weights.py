"""Where this node's weights come from: a model's folder that can be read here, else its store. Used by the service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlxctl.rpc import shard_pb2
from mlxctl.sharding import TensorHeader
from mlxctl.worker.layer_store import LayerStore


class NodeWeights:
    """The node's `store` and, unless it is `store_only`, every folder that this process can read."""

    def __init__(self, store: LayerStore, *, store_only: bool) -> None:
        self.store = store
        self._store_only = store_only

    def describe(self, request: shard_pb2.StoreRequest) -> shard_pb2.StoreReply:
        """What is here of the model that is asked for. Raises CorruptFrame for an impossible key."""
        return shard_pb2.StoreReply(
            reads_folder=not self._store_only and _has_files(Path(request.model_path), request.files),
            held_bytes=self.store.held_bytes(request.weights) if request.weights else {},
            free_bytes=self.store.free_bytes(),
        )

    def find(self, request: shard_pb2.LoadRequest) -> tuple[Path, Mapping[str, TensorHeader]]:
        """The folder to load from and the tensors that it may lack. Raises CheckpointError, CorruptFrame."""
        if not request.weights:
            return Path(request.model_path), {}
        folder, manifest = self.store.require(request.weights, request.start, request.stop)
        return folder, manifest.tensors


def _has_files(folder: Path, files: Mapping[str, int]) -> bool:
    """Whether all `files` are in `folder` with the given sizes."""
    try:
        return bool(files) and all((folder / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False
