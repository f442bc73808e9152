"""The safetensors files of a model's folder, whether they lie in it or on the hub only. Called by facts and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxctl.checkpoint.hub import HEADERS, stored_headers
from mlxctl.hub import cached_snapshot
from mlxctl.sharding.model import joined_headers, read_headers
from mlxctl.sharding.random_model import random_name
from mlxctl.sharding.safetensors import TensorHeader, safetensors_header


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file: its tensors, and where it lies on this machine; None if it does not."""

    name: str
    size_bytes: int
    tensors: Mapping[str, TensorHeader]
    path: Path | None


@dataclass(frozen=True, slots=True)
class HubCommit:
    """A model's state on a hub."""

    repo: str
    commit: str


def origin_of(folder: Path) -> HubCommit | None:
    """Where nodes can find the model by themselves: a commit on a hub, or the shape of one with random weights."""
    name = random_name(folder)
    return HubCommit(name, "") if name else hub_commit(folder)


def hub_commit(folder: Path) -> HubCommit | None:
    """What a snapshot folder is a snapshot of; None for any other folder."""
    model = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not model.startswith("models--"):
        return None
    return HubCommit(model.removeprefix("models--").replace("--", "/"), folder.name)


def weight_files(folder: Path) -> tuple[WeightFile, ...]:
    """The files of the model in `folder`, in the order of their names. Raises CheckpointError."""
    if (folder / HEADERS).is_dir():
        return tuple(
            WeightFile(name, size_bytes, tensors, _cached(folder, name, size_bytes))
            for name, (size_bytes, tensors) in stored_headers(folder).items()
        )
    read_headers(folder)
    files = sorted(folder.glob("model*.safetensors"))
    return tuple(WeightFile(file.name, file.stat().st_size, safetensors_header(file), file) for file in files)


def all_tensors(folder: Path) -> dict[str, TensorHeader]:
    """Every tensor of the model in `folder`, by name. Raises CheckpointError."""
    if not (folder / HEADERS).is_dir():
        return read_headers(folder)
    return joined_headers({file.name: file.tensors for file in weight_files(folder)})


def _cached(folder: Path, name: str, size_bytes: int) -> Path | None:
    """A file of a hub's commit that the Hugging Face cache happens to have."""
    origin = hub_commit(folder)
    snapshot = cached_snapshot(origin.repo, origin.commit) if origin else None
    path = snapshot / name if snapshot else None
    try:
        return path if path and path.stat().st_size == size_bytes else None
    except OSError:
        return None
