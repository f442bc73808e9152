"""Where this node's weights come from: a folder of the model that can be read here, else its store. For the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlxctl.errors import CheckpointError
from mlxctl.hub import cached_snapshot
from mlxctl.rpc import shard_pb2
from mlxctl.sharding import TensorHeader
from mlxctl.sharding.random_model import is_random_name, random_folder
from mlxctl.worker.layer_store import LayerStore


class NodeWeights:
    """The node's `store` and, unless it is `store_only`, every folder that this process can read."""

    def __init__(self, store: LayerStore, *, store_only: bool) -> None:
        self.store = store
        self._store_only = store_only

    def describe(self, request: shard_pb2.StoreRequest) -> shard_pb2.StoreReply:
        """What is here of the model that is asked for. Raises CorruptFrame for an impossible key."""
        found = (str(folder) for folder in self._folders(request) if _has_files(folder, request.files))
        return shard_pb2.StoreReply(
            folder=next(found, ""),
            held_bytes=self.store.held_bytes(request.weights) if request.weights else {},
            free_bytes=self.store.free_bytes(),
            disk=self.store.disk(),
        )

    def find(self, request: shard_pb2.LoadRequest) -> tuple[Path, Mapping[str, TensorHeader]]:
        """The folder to load from and the tensors that it may lack. Raises CheckpointError, CorruptFrame."""
        if not request.weights:
            return Path(request.folder or request.model_path), {}
        if not request.folder:
            folder, manifest = self.store.require(request.weights, request.start, request.stop)
            return folder, manifest.tensors
        described = self.store.manifest(request.weights)
        if described is None:
            raise CheckpointError("nothing of this model is in this node's store")
        return Path(request.folder), described.tensors

    def _folders(self, request: shard_pb2.StoreRequest) -> Iterator[Path]:
        """Where the files may be: the folder that the coordinator reads, this node's own hub cache. A model with random
        weights is made anywhere.
        """
        if is_random_name(request.repo):
            yield random_folder(request.repo)
        if self._store_only:
            return
        yield Path(request.model_path)
        if request.repo and (snapshot := cached_snapshot(request.repo, request.commit)) is not None:
            yield snapshot


def _has_files(folder: Path, files: Mapping[str, int]) -> bool:
    """Whether all `files` are in `folder` with the given sizes."""
    try:
        return bool(files) and all((folder / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False
