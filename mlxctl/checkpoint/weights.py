"""A model's pieces as bytes, straight from its files, and its manifest. Called by launch to fill nodes' stores.

A piece is never written on this side: it is a header and byte ranges of the checkpoint's files. Hashing a model reads
it once; the hashes are then kept, under a fingerprint of its files' sizes and times.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mlxctl.checkpoint.pieces import Piece, sort_tensors
from mlxctl.errors import CheckpointError
from mlxctl.sharding.manifest import MANIFEST, Manifest, PieceEntry
from mlxctl.sharding.model import read_headers
from mlxctl.sharding.safetensors import DTYPES, TensorHeader, safetensors_header

CHUNK_BYTES = 1 << 20
CONFIG_FILES = ("config.json", "generation_config.json", "hf_quant_config.json")  # what mlx-lm reads

_LAYOUT = 1  # of pieces; other bytes for the same model get another number
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
    """The pieces of the model in one folder. Methods block; they may be called from several threads."""

    def __init__(self, manifest: Manifest, segments: Mapping[str, tuple[Segment, ...]]) -> None:
        self.manifest = manifest
        self._segments = segments

    def chunks(self, piece: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of `piece` from `offset` on, at most 1 MiB at a time. Raises CheckpointError."""
        if piece == MANIFEST:
            yield from Segment(len(self.manifest.encoded), self.manifest.encoded).chunks(offset)
            return
        for segment in self._segments[piece]:
            if offset < segment.size_bytes:
                yield from segment.chunks(offset)
            offset = max(offset - segment.size_bytes, 0)


def model_files(path: Path) -> dict[str, int]:
    """Sizes of the files in `path` that loading the model reads, by name."""
    files = [*path.glob("model*.safetensors"), *(path / name for name in CONFIG_FILES)]
    return {file.name: file.stat().st_size for file in sorted(files) if file.exists()}


def open_weights(path: Path, name: str, cache: Path, on_hashed: OnHashed) -> ModelWeights:
    """The weights of the model in `path`, called `name` in stores.

    `on_hashed` gets bytes done and in all while the model is hashed: once, for hashes are kept in the folder `cache`
    and found again as long as the files stay as they are. Raises CheckpointError.
    """
    headers = read_headers(path)
    found = sort_tensors(path, headers)
    segments = _segments(path, found.pieces)
    hashes = _hashes(segments, cache / f"{_fingerprint(path)}.json", on_hashed)
    needs = {piece.name: piece.needs for piece in found.pieces}
    entries = (
        PieceEntry(piece, _size(parts), hashes[piece], needs.get(piece, ())) for piece, parts in segments.items()
    )
    return ModelWeights(Manifest(name, found.layer_count, tuple(entries), headers), segments)


def _segments(path: Path, pieces: Sequence[Piece]) -> dict[str, tuple[Segment, ...]]:
    """Every piece's bytes: config files as they are, then safetensors files as if each had been saved by itself."""
    segments: dict[str, tuple[Segment, ...]] = {}
    for name in CONFIG_FILES:
        if (path / name).exists():
            data = (path / name).read_bytes()
            segments[name] = (Segment(len(data), data),)
    places = {
        tensor: (file, header)
        for file in sorted(path.glob("model*.safetensors"))
        for tensor, header in safetensors_header(file).items()
    }
    for piece in pieces:
        wanted = {tensor: places[tensor] for tensor in piece.tensors}
        data = _header({tensor: header for tensor, (_, header) in wanted.items()})
        ranges = (Segment(header.size_bytes, b"", file, header.start) for file, header in wanted.values())
        segments[piece.name] = (Segment(len(data), data), *ranges)
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


def _fingerprint(path: Path) -> str:
    """Changes when a file of the model does; of a link, its target counts."""
    facts = [(name, os.stat(path / name)) for name in model_files(path)]
    seen = [(name, fact.st_size, fact.st_mtime_ns, fact.st_dev, fact.st_ino) for name, fact in facts]
    return hashlib.sha256(json.dumps([_LAYOUT, seen]).encode()).hexdigest()


def _size(parts: Sequence[Segment]) -> int:
    return sum(segment.size_bytes for segment in parts)
