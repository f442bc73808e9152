"""Where on a hub the bytes of a model's pieces are: part of its manifest. Made by checkpoint, read by workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_REPO = re.compile(r"[\w.-]{1,96}(?:/[\w.-]{1,96})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes [start, stop) of a file."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class PieceSource:
    """A piece's bytes: `head`, then those of `ranges`, one after the other."""

    head: bytes
    ranges: tuple[ByteRange, ...]

    def after(self, offset: int) -> PieceSource:
        """The same without the first `offset` bytes."""
        head, skip = self.head[offset:], max(0, offset - len(self.head))
        rest = []
        for part in self.ranges:
            skipped = min(skip, part.stop - part.start)
            skip -= skipped
            if part.start + skipped < part.stop:
                rest.append(ByteRange(part.file, part.start + skipped, part.stop))
        return PieceSource(head, tuple(rest))

    def chunks(self, read: Callable[[ByteRange], Iterator[bytes]], offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on, ranges read by `read`."""
        rest = self.after(offset)
        if rest.head:
            yield rest.head
        for part in rest.ranges:
            yield from read(part)

    @property
    def size_bytes(self) -> int:
        return len(self.head) + sum(part.stop - part.start for part in self.ranges)


@dataclass(frozen=True, slots=True)
class Origin:
    """A commit of a model on a hub, and by name of the piece where its bytes are. A commit never changes, so pieces
    from it are known by where they come from, before anybody has hashed them.
    """

    repo: str
    commit: str
    sources: Mapping[str, PieceSource]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        sources = {
            piece: [source.head.decode("latin-1"), [[part.file, part.start, part.stop] for part in source.ranges]]
            for piece, source in self.sources.items()
        }
        return {"repo": self.repo, "commit": self.commit, "sources": sources}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Origin:
        """What `document` wrote. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
        repo, commit = document["repo"], document["commit"]
        if not _REPO.fullmatch(repo) or not _COMMIT.fullmatch(commit):
            raise ValueError("an impossible origin")
        return cls(repo, commit, {piece: _source(fields) for piece, fields in document["sources"].items()})


def _source(fields: Any) -> PieceSource:
    head, parts = fields
    ranges = tuple(ByteRange(str(file), int(start), int(stop)) for file, start, stop in parts)
    if any(part.start < 0 or part.stop <= part.start or "/" in part.file for part in ranges):
        raise ValueError("an impossible range")
    return PieceSource(head.encode("latin-1"), ranges)
