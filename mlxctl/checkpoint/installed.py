"""Which models this machine has in folders: the built-in one, those in the hub's cache. Called by `mlxctl models`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlxctl.canary import MODEL_DIR
from mlxctl.checkpoint.resolve import CANARY
from mlxctl.checkpoint.weights import model_files
from mlxctl.errors import CheckpointError
from mlxctl.sharding.model import read_config, read_headers


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in the folder `path`. `fault` says why it cannot be loaded; None if its files are complete and sound."""

    name: str
    path: Path
    size_bytes: int
    fault: str | None


def built_in() -> InstalledModel:
    """The canary."""
    return _look_at(CANARY, MODEL_DIR)


def in_hub_cache() -> list[InstalledModel]:
    """Every revision of a model in the hub's cache that has safetensors files, by name."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = [
        _look_at(repository.repo_id, revision.snapshot_path)
        for repository in repositories
        for revision in repository.revisions
        if repository.repo_type == "model" and any(revision.snapshot_path.glob("model*.safetensors*"))
    ]
    return sorted(found, key=lambda model: (model.name, str(model.path)))


def _look_at(name: str, path: Path) -> InstalledModel:
    fault = None
    try:
        read_config(path)
        read_headers(path)
    except CheckpointError as error:
        fault = error.message
    return InstalledModel(name, path, sum(model_files(path).values()), fault)
