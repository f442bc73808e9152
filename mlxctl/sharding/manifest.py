"""What the weights of one model consist of: pieces that nodes hold, with hashes. Made by checkpoint, read by workers.

A piece is one file: the tensors of one layer, tensors outside the layers that the same stages need, or a config file.
A model is known by its key, the SHA-256 of its manifest, which holds the SHA-256 of every piece, or the commit on a hub
that its pieces come from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlxctl.errors import CheckpointError
from mlxctl.sharding.origin import Origin
from mlxctl.sharding.safetensors import TensorHeader

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 100_000_000
_VERSION = 1
_PIECE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PieceEntry:
    """One piece. `needs` are the layers that hang on it, the layer count standing for the logits; empty: every stage
    needs it. `sha256` is empty for a piece of a commit on a hub.
    """

    name: str
    size_bytes: int
    sha256: str
    needs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A model's pieces, and dtype and shape of all tensors of its files, those in no piece included."""

    name: str
    layer_count: int
    pieces: tuple[PieceEntry, ...]
    tensors: Mapping[str, TensorHeader]
    origin: Origin | None = None

    @cached_property
    def encoded(self) -> bytes:
        """JSON, the same for the same content."""
        document = {
            "version": _VERSION,
            "name": self.name,
            "layer_count": self.layer_count,
            "pieces": [[piece.name, piece.size_bytes, piece.sha256, piece.needs] for piece in self.pieces],
            "tensors": {name: [header.dtype, header.shape] for name, header in sorted(self.tensors.items())},
            **({"origin": self.origin.document()} if self.origin else {}),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the encoded manifest."""
        return hashlib.sha256(self.encoded).hexdigest()

    @property
    def own_entry(self) -> PieceEntry:
        """The manifest as a piece: it is sent before all others."""
        return PieceEntry(MANIFEST, len(self.encoded), self.key)

    def needed(self, start: int, stop: int) -> tuple[PieceEntry, ...]:
        """The pieces without which the stage of layers [start, stop) cannot be loaded."""
        end = self.layer_count if stop == self.layer_count else None
        return tuple(
            piece
            for piece in self.pieces
            if not piece.needs or any(start <= need < stop or need == end for need in piece.needs)
        )

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """The manifest that `encoded` wrote. Raises CheckpointError for anything else."""
        try:
            document = json.loads(data)
            if document["version"] != _VERSION:
                raise CheckpointError(f"a manifest of version {document['version']}, this mlxctl reads {_VERSION}")
            origin = Origin.of(document["origin"]) if "origin" in document else None
            return cls(
                str(document["name"]),
                int(document["layer_count"]),
                tuple(_entry(fields, origin) for fields in document["pieces"]),
                {name: _header(fields) for name, fields in document["tensors"].items()},
                origin,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"a manifest that cannot be read: {error}") from error


def _entry(fields: Any, origin: Origin | None) -> PieceEntry:
    name, size_bytes, sha256, needs = fields
    if not is_piece_name(name) or name == MANIFEST:
        raise ValueError("a piece with a bad name")
    source = origin.sources.get(name) if origin and sha256 == "" else None
    if not _SHA256.fullmatch(sha256) and (source is None or source.size_bytes != size_bytes):
        raise ValueError("a piece with a bad hash")
    return PieceEntry(name, int(size_bytes), sha256, tuple(int(need) for need in needs))


def _header(fields: Any) -> TensorHeader:
    dtype, shape = fields
    return TensorHeader(str(dtype), tuple(int(size) for size in shape), 0, 0)


def is_piece_name(name: str) -> bool:
    """Whether `name` is fit for a file of the store."""
    return _PIECE_NAME.fullmatch(name) is not None


def is_key(key: str) -> bool:
    """Whether `key` can be a manifest's."""
    return _SHA256.fullmatch(key) is not None
