"""What in a layer store can go: unfinished transfers, commits that newer ones replace. For `mlxctl models`."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxctl.sharding.manifest import is_key
from mlxctl.worker.layer_store import PARTIAL, LayerStore, StoredModel


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or folder that can be removed, how much room that makes, and why it can."""

    path: Path
    size_bytes: int
    why: str

    def remove(self) -> None:
        """Nothing there: nothing done."""
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


def leftovers(store: LayerStore) -> list[Leftover]:
    """What nobody is writing and nothing will read."""
    models = store.models()
    known = {model.key for model in models}
    old = [_whole(store, model, f"replaced by a newer commit of {model.manifest.name}") for model in _replaced(models)]
    gone = {leftover.path for leftover in old}
    folders = [folder for folder in _folders(store) if folder not in gone]
    unknown = [Leftover(folder, _size(folder), "of no known model") for folder in folders if folder.name not in known]
    return [*old, *unknown, *(partial for folder in folders if folder.name in known for partial in _partials(folder))]


def everything_of(store: LayerStore, name: str) -> list[Leftover]:
    """All that the store has of the model called `name`."""
    return [_whole(store, model, f"layers of {name}") for model in store.models() if model.manifest.name == name]


def _replaced(models: Sequence[StoredModel]) -> Iterator[StoredModel]:
    """Of several commits of one model on a hub all but the one that came last."""
    newest: dict[str, StoredModel] = {}
    for model in sorted(models, key=lambda model: model.stored_at):
        if model.manifest.origin is not None:
            if (before := newest.get(model.manifest.origin.repo)) is not None:
                yield before
            newest[model.manifest.origin.repo] = model


def _folders(store: LayerStore) -> list[Path]:
    return sorted(folder for folder in store.root.iterdir() if is_key(folder.name)) if store.root.is_dir() else []


def _partials(folder: Path) -> Iterator[Leftover]:
    for file in sorted(folder.glob(f"*{PARTIAL}")):
        if not _is_being_written(file):
            yield Leftover(file, file.stat().st_size, "the beginning of a transfer that was not finished")


def _is_being_written(file: Path) -> bool:
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _whole(store: LayerStore, model: StoredModel, why: str) -> Leftover:
    folder = store.folder(model.key)
    return Leftover(folder, _size(folder), why)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
