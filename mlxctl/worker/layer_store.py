"""Weights on a node's disk: one folder per model, one file per piece. Written by Put, read by Load and `mlxctl models`.

    <root>/<key>/manifest.json, config.json, model-layer-00003.safetensors, model-layer-00004.safetensors.partial

A file without `.partial` is whole and its hash was right when it came. Where the manifest has no hash for it, that of
the bytes that came is in <file>.sha256. Several processes may share a store.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlxctl.errors import CheckpointError, CorruptFrame, StoreFull
from mlxctl.sharding.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, PieceEntry, is_key, is_piece_name

PARTIAL = ".partial"
HASH = ".sha256"
LOCK_POLL_S = 0.05
CHUNK_BYTES = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What the store has of one model. `pieces` are whole; `partial_bytes` are of others. `stored_at` is Unix time in
    seconds.
    """

    key: str
    manifest: Manifest
    pieces: tuple[PieceEntry, ...]
    partial_bytes: int
    stored_at: float

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces) + self.partial_bytes


class LayerStore:
    """The store in the folder `root`, which need not exist before something is put into it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, key: str) -> Path:
        """Where the pieces of the model `key` lie. Raises CorruptFrame for what cannot be a key."""
        if not is_key(key):
            raise CorruptFrame(f"{key[:80]!r} is not the key of a model")
        return self.root / key

    def manifest(self, key: str) -> Manifest | None:
        """The manifest of the model `key`; None if the store has none or a damaged one."""
        try:
            manifest = Manifest.decode((self.folder(key) / MANIFEST).read_bytes())
        except (OSError, CheckpointError):
            return None
        return manifest if manifest.key == key else None

    def held_bytes(self, key: str) -> dict[str, int]:
        """Bytes of each piece of the model `key` that are here; a piece is whole if all its bytes are."""
        manifest = self.manifest(key)
        if manifest is None:
            return {}
        pieces = (manifest.own_entry, *manifest.pieces)
        held = {piece.name: self._held(self.folder(key), piece) for piece in pieces}
        return {name: size_bytes for name, size_bytes in held.items() if size_bytes}

    def models(self) -> list[StoredModel]:
        """Every model of which something is here, by name."""
        keys = [folder.name for folder in self.root.iterdir() if is_key(folder.name)] if self.root.is_dir() else []
        return sorted((model for key in keys if (model := self._model(key))), key=lambda m: (m.manifest.name, m.key))

    def damaged(self, model: StoredModel) -> list[str]:
        """Names of whole pieces of `model` whose bytes are not those of the hash. Reads all of them."""
        folder = self.folder(model.key)
        return [piece.name for piece in model.pieces if _file_hash(folder / piece.name) != _sha256(folder, piece)]

    def require(self, key: str, start: int, stop: int) -> tuple[Path, Manifest]:
        """Folder and manifest of the model `key`, whose layers [start, stop) are here; CheckpointError if not."""
        manifest = self.manifest(key)
        if manifest is None:
            raise CheckpointError("nothing of this model is in this node's store")
        folder = self.folder(key)
        for piece in manifest.needed(start, stop):
            if not _is_whole(folder, piece):
                raise CheckpointError(f"{piece.name} of {manifest.name} is not in this node's store")
        return folder, manifest

    def free_bytes(self) -> int:
        """What the store's disk has room for."""
        return shutil.disk_usage(self._existing()).free

    def disk(self) -> str:
        """A name of the store's disk, the same for every store on it."""
        return f"{platform.node()}:{self._existing().stat().st_dev}"

    @contextmanager
    def receive(
        self,
        key: str,
        piece: str,
        size_bytes: int,
        still_wanted: Callable[[], bool] = lambda: True,
        sha256: str = "",
    ) -> Iterator[PieceWriter | None]:
        """Take `piece` of the model `key`; None if it is here already. What came stays if the block is left early.

        `sha256` (hex) is the sender's, for a piece whose hash the manifest does not have. Waits while another process
        takes the same piece, as long as it is `still_wanted`. Raises CorruptFrame for a piece that the manifest does
        not list, StoreFull if the disk has no room for the rest of it.
        """
        folder = self.folder(key)
        entry = self._entry(key, piece, size_bytes)
        if self._has(key, entry):
            yield None
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / f"{piece}{PARTIAL}", still_wanted) as file:
            if self._has(key, entry):  # it came while we waited
                os.unlink(file.name)
                yield None
                return
            (folder / piece).unlink(missing_ok=True)
            writer = PieceWriter(file, entry, entry.sha256 or sha256)
            missing_bytes, free_bytes = entry.size_bytes - writer.present_bytes, self.free_bytes()
            if missing_bytes > free_bytes:
                raise _full(missing_bytes, free_bytes, self.root)
            try:
                yield writer
            except OSError as error:
                if error.errno not in _DISK_FULL:
                    raise
                raise _full(entry.size_bytes - writer.present_bytes, self.free_bytes(), self.root) from error

    def _existing(self) -> Path:
        """The store's folder, or the nearest one above it that is there."""
        return next(folder for folder in (self.root, *self.root.parents) if folder.exists())

    def _entry(self, key: str, piece: str, size_bytes: int) -> PieceEntry:
        if piece == MANIFEST and size_bytes <= MAX_MANIFEST_BYTES:
            return PieceEntry(MANIFEST, size_bytes, key)
        manifest = self.manifest(key)
        for entry in manifest.pieces if manifest else ():
            if entry.name == piece and entry.size_bytes == size_bytes:
                return entry
        raise CorruptFrame(f"{piece[:80]!r} of {size_bytes} bytes is not a piece of the model {key[:12]}")

    def _has(self, key: str, entry: PieceEntry) -> bool:
        """Whether a piece is whole. A manifest is small, so its hash is looked at too: all else hangs on it."""
        return self.manifest(key) is not None if entry.name == MANIFEST else _is_whole(self.folder(key), entry)

    def _model(self, key: str) -> StoredModel | None:
        manifest = self.manifest(key)
        if manifest is None:
            return None
        whole = tuple(piece for piece in manifest.pieces if _is_whole(self.folder(key), piece))
        rest = (piece for piece in manifest.pieces if piece not in whole)
        partial_bytes = sum(self._held(self.folder(key), piece) for piece in rest)
        stored_at = (self.folder(key) / MANIFEST).stat().st_mtime
        return StoredModel(key, manifest, whole, partial_bytes, stored_at)

    @staticmethod
    def _held(folder: Path, piece: PieceEntry) -> int:
        if _is_whole(folder, piece):
            return piece.size_bytes
        # One that has all bytes but was not finished, and so not checked, is not whole.
        return min(_file_bytes(folder / f"{piece.name}{PARTIAL}"), piece.size_bytes - 1)


class PieceWriter:
    """A piece on its way into the store. Used by one thread, or by one that hashes and one that appends."""

    def __init__(self, file: BinaryIO, entry: PieceEntry, sha256: str) -> None:
        """`sha256` (hex) is what the bytes must have; empty if nobody knows."""
        self._file = file
        self._entry = entry
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self.present_bytes = 0
        while data := file.read(CHUNK_BYTES):
            self._digest.update(data)
            self.present_bytes += len(data)

    def write(self, data: bytes) -> None:
        """Hash and append `data`. Raises CorruptFrame beyond the piece's end, OSError if the disk is full."""
        self.hash(data)
        self.append(data)

    def hash(self, data: bytes) -> None:
        """Count `data` into the hash; it must be appended too."""
        self._digest.update(data)

    def append(self, data: bytes) -> None:
        """Append `data`, which must be hashed too. Raises as `write` does."""
        if self.present_bytes + len(data) > self._entry.size_bytes:
            self._reject("is longer than announced")
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            self.present_bytes += written
            rest = rest[written:]

    def finish(self) -> None:
        """Make the whole piece part of the store. Raises CorruptFrame, and forgets the piece, if its hash is wrong."""
        if self.present_bytes < self._entry.size_bytes:
            raise CorruptFrame(f"{self._entry.name} ended after {self.present_bytes} of {self._entry.size_bytes} bytes")
        found = self._digest.hexdigest()
        if self._sha256 and found != self._sha256:
            self._reject("does not have the hash that was announced")
        os.fsync(self._file.fileno())
        partial = Path(self._file.name)
        if not self._entry.sha256:
            partial.with_name(self._entry.name + HASH).write_text(found, encoding="ascii")
        partial.rename(partial.with_name(self._entry.name))
        _sync_folder(partial.parent)

    def _reject(self, why: str) -> None:
        os.unlink(self._file.name)
        raise CorruptFrame(f"{self._entry.name} {why}")


@contextmanager
def _locked(path: Path, still_wanted: Callable[[], bool]) -> Iterator[BinaryIO]:
    """The file at `path`, created if need be, ours alone while the block runs. Raises CorruptFrame for a bad name."""
    if not is_piece_name(path.name):
        raise CorruptFrame(f"{path.name[:80]!r} is not the name of a piece")
    while True:
        with path.open("a+b", buffering=0) as file:
            _wait_for_lock(file, still_wanted)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.seek(0)
                yield file
                return


def _wait_for_lock(file: BinaryIO, still_wanted: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not still_wanted():
                raise CorruptFrame("the sender is gone") from None
            time.sleep(LOCK_POLL_S)


def _is_whole(folder: Path, piece: PieceEntry) -> bool:
    return _file_bytes(folder / piece.name) == piece.size_bytes


def _sha256(folder: Path, piece: PieceEntry) -> str:
    """The hash that a whole piece had when it came; empty if that is not known."""
    if piece.sha256:
        return piece.sha256
    try:
        return (folder / f"{piece.name}{HASH}").read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(needed_bytes: int, free_bytes: int, root: Path) -> StoreFull:
    return StoreFull(
        f"weights need {needed_bytes} bytes on the disk of {root}, which has {free_bytes} free",
        hint="make room on that disk",
    )
