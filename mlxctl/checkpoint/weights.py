"""A model's pieces as bytes, straight from its files, and its manifest. Called by launch to fill nodes' stores.

A piece is never written on this side: it is a header and byte ranges of the checkpoint's files. Hashing a model reads
it once; the hashes are then kept, under a fingerprint of its files' sizes and times. What comes from a commit on a hub
is not hashed ahead: the commit says which bytes they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mlxctl.checkpoint.files import WeightFile, hub_commit, weight_files
from mlxctl.checkpoint.hub import HEADERS
from mlxctl.checkpoint.pieces import Piece, sort_tensors
from mlxctl.errors import CheckpointError
from mlxctl.hub import HubClient, access_from_environment
from mlxctl.sharding.manifest import MANIFEST, Manifest, PieceEntry
from mlxctl.sharding.model import joined_headers
from mlxctl.sharding.origin import ByteRange, Origin, PieceSource
from mlxctl.sharding.random_weights import RANDOM
from mlxctl.sharding.safetensors import DTYPES, TensorHeader

CHUNK_BYTES = 1 << 20
CONFIG_FILES = ("config.json", "generation_config.json", "hf_quant_config.json", RANDOM)  # what loading reads

_LAYOUT = 2  # of pieces; other bytes for the same model get another number
_STORED_DTYPES = {mlx_dtype: stored for stored, (mlx_dtype, _) in reversed(list(DTYPES.items()))}

OnHashed = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of a piece: given, or [start, start + size_bytes) of a file."""

    size_bytes: int
    data: bytes = b""
    file: Path | None = None
    start: int = 0

    def chunks(self, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on, at most CHUNK_BYTES at a time. Raises CheckpointError if the file was cut."""
        if self.file is None:
            yield from (self.data[at : at + CHUNK_BYTES] for at in range(offset, self.size_bytes, CHUNK_BYTES))
            return
        with self.file.open("rb", buffering=0) as file:
            while offset < self.size_bytes:
                data = os.pread(file.fileno(), min(CHUNK_BYTES, self.size_bytes - offset), self.start + offset)
                if not data:
                    raise CheckpointError(f"{self.file} became shorter while it was read", hint="start again")
                yield data
                offset += len(data)


class ModelWeights:
    """The pieces of one model. Methods block; they may be called from several threads.

    Pieces with `segments` are on this machine; all others are where the manifest's origin says.
    """

    def __init__(self, manifest: Manifest, segments: Mapping[str, tuple[Segment, ...]]) -> None:
        self.manifest = manifest
        self._segments = segments

    def is_here(self, piece: str) -> bool:
        """Whether this machine has the bytes of `piece`."""
        return piece == MANIFEST or piece in self._segments

    def sha256(self, entry: PieceEntry) -> str:
        """The hash (hex) of a piece: the manifest's, else that of the bytes here; empty for what is elsewhere."""
        if entry.sha256 or not self.is_here(entry.name):
            return entry.sha256
        return _sha256(self._segments[entry.name])

    def files(self, pieces: Sequence[str]) -> set[str]:
        """Names of the model's files that hold the bytes of `pieces`, as far as its origin tells."""
        origin = self.manifest.origin
        sources = (origin.sources.get(piece) for piece in pieces) if origin else ()
        return {part.file for source in sources if source for part in source.ranges}

    def chunks(self, piece: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of `piece` from `offset` on, at most 1 MiB at a time. Raises CheckpointError."""
        if piece == MANIFEST:
            yield from Segment(len(self.manifest.encoded), self.manifest.encoded).chunks(offset)
            return
        if not self.is_here(piece):
            yield from self._from_hub(piece, offset)
            return
        for segment in self._segments[piece]:
            if offset < segment.size_bytes:
                yield from segment.chunks(offset)
            offset = max(offset - segment.size_bytes, 0)

    def _from_hub(self, piece: str, offset: int) -> Iterator[bytes]:
        origin = self.manifest.origin
        assert origin is not None
        with HubClient(access_from_environment()) as hub:
            yield from origin.sources[piece].chunks(
                lambda part: hub.read(origin.repo, origin.commit, part.file, part.start, part.stop), offset
            )


def model_files(path: Path) -> dict[str, int]:
    """Sizes of the files that loading the model in `path` reads, by name, also of those that are on the hub only."""
    files = [*path.glob("model*.safetensors"), *(path / name for name in CONFIG_FILES)]
    elsewhere = {file.name: file.size_bytes for file in weight_files(path)} if (path / HEADERS).is_dir() else {}
    return {**elsewhere, **{file.name: file.stat().st_size for file in sorted(files) if file.exists()}}


def open_weights(path: Path, name: str, cache: Path, on_hashed: OnHashed) -> ModelWeights:
    """The weights of the model in `path`, called `name` in stores.

    `on_hashed` gets bytes done and in all while the model is hashed: once, for hashes are kept in the folder `cache`
    and found again as long as the files stay as they are. Raises CheckpointError.
    """
    files = weight_files(path)
    headers = joined_headers({file.name: file.tensors for file in files})
    found = sort_tensors(path, headers)
    sources = _sources(files, found.pieces)
    segments = _segments(path, files, sources)
    commit = hub_commit(path)
    origin = Origin(commit.repo, commit.commit, sources) if commit else None
    if origin is None:
        hashes = _hashes(segments, cache / f"{_fingerprint(path)}.json", on_hashed)
    else:
        hashes = {name: _sha256(parts) for name, parts in segments.items() if name not in sources}
    sizes = {name: _size(parts) for name, parts in segments.items()}
    sizes |= {piece: source.size_bytes for piece, source in sources.items()}
    needs = {piece.name: piece.needs for piece in found.pieces}
    entries = (PieceEntry(name, size, hashes.get(name, ""), needs.get(name, ())) for name, size in sizes.items())
    return ModelWeights(Manifest(name, found.layer_count, tuple(entries), headers, origin), segments)


def _sources(files: Sequence[WeightFile], pieces: Sequence[Piece]) -> dict[str, PieceSource]:
    """Every piece's bytes: a file as if its tensors had been saved by themselves, in the order they have in `files`."""
    places = {tensor: (file.name, header) for file in files for tensor, header in file.tensors.items()}
    sources = {}
    for piece in pieces:
        tensors = sorted(piece.tensors, key=lambda tensor: (places[tensor][0], places[tensor][1].start))
        ranges = (ByteRange(places[t][0], places[t][1].start, places[t][1].stop) for t in tensors)
        head = _header({tensor: places[tensor][1] for tensor in tensors})
        sources[piece.name] = PieceSource(head, tuple(_joined(part for part in ranges if part.stop > part.start)))
    return sources


def _joined(ranges: Iterable[ByteRange]) -> Iterator[ByteRange]:
    """The same bytes in as few ranges as can be."""
    last = None
    for part in ranges:
        if last is not None and (last.file, last.stop) == (part.file, part.start):
            last = ByteRange(last.file, last.start, part.stop)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _segments(
    path: Path, files: Sequence[WeightFile], sources: Mapping[str, PieceSource]
) -> dict[str, tuple[Segment, ...]]:
    """The bytes of config files, as they are, and of the pieces whose files are here."""
    segments: dict[str, tuple[Segment, ...]] = {}
    for name in CONFIG_FILES:
        if (path / name).exists():
            data = (path / name).read_bytes()
            segments[name] = (Segment(len(data), data),)
    here = {file.name: file.path for file in files if file.path is not None}
    for piece, source in sources.items():
        if all(part.file in here for part in source.ranges):
            ranges = (Segment(part.stop - part.start, b"", here[part.file], part.start) for part in source.ranges)
            segments[piece] = (Segment(len(source.head), source.head), *ranges)
    return segments


def _header(tensors: Mapping[str, TensorHeader]) -> bytes:
    """The beginning of a safetensors file of `tensors`, in this order; padded, so that data is aligned to 8 bytes."""
    entries = {}
    end = 0
    for tensor, header in tensors.items():
        begin, end = end, end + header.size_bytes
        entries[tensor] = {"dtype": _STORED_DTYPES[header.dtype], "shape": header.shape, "data_offsets": [begin, end]}
    raw = json.dumps({"__metadata__": {"format": "mlx"}, **entries}, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def _hashes(segments: Mapping[str, tuple[Segment, ...]], kept: Path, on_hashed: OnHashed) -> dict[str, str]:
    """SHA-256 (hex) of every piece, from the file `kept` if it has them."""
    with suppress(OSError, ValueError):
        hashes: dict[str, str] = json.loads(kept.read_text(encoding="utf-8"))
        if hashes.keys() == segments.keys():
            return hashes
    total_bytes = sum(_size(parts) for parts in segments.values())
    hashes, done_bytes = {}, 0
    for piece, parts in segments.items():
        digest = hashlib.sha256()
        for chunk in chain.from_iterable(segment.chunks(0) for segment in parts):
            digest.update(chunk)
            done_bytes += len(chunk)
            on_hashed(done_bytes, total_bytes)
        hashes[piece] = digest.hexdigest()
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = kept.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(hashes), encoding="utf-8")
    fresh.replace(kept)
    return hashes


def _sha256(parts: Sequence[Segment]) -> str:
    digest = hashlib.sha256()
    for chunk in chain.from_iterable(segment.chunks(0) for segment in parts):
        digest.update(chunk)
    return digest.hexdigest()


def _fingerprint(path: Path) -> str:
    """Changes when a file of the model does; of a link, its target counts."""
    facts = [(name, os.stat(path / name)) for name in model_files(path)]
    seen = [(name, fact.st_size, fact.st_mtime_ns, fact.st_dev, fact.st_ino) for name, fact in facts]
    return hashlib.sha256(json.dumps([_LAYOUT, seen]).encode()).hexdigest()


def _size(parts: Sequence[Segment]) -> int:
    return sum(segment.size_bytes for segment in parts)
