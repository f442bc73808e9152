"""Cuts frames into parts of at most 1 MiB and joins them again. Used by both ends of every stream.

A 64 MiB activation travels at 1.65 GB/s in 1 MiB messages and at 0.46 GB/s in one; and parts of a small frame can
overtake those of a large one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mlxctl.errors import CorruptFrame, ForeignFrame, FrameTooLarge

PART_BYTES = 1 << 20
MAX_FRAME_BYTES = 1 << 30
MAX_OPEN_FRAMES = 64

_MAGIC = b"MX"
_VERSION = 1
# magic, version, (padding), epoch, frame id, bytes of the whole frame, offset of this part; then its CRC-32
_HEADER = struct.Struct("<2sBxIQII")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
MAX_MESSAGE_BYTES = HEADER_BYTES + PART_BYTES

Buffer = bytes | bytearray | memoryview


def split(buffers: Iterable[Buffer], *, epoch: int, frame_id: int) -> Iterator[bytes]:
    """Yield the parts of the frame that `buffers` (flat bytes each) make up. Raises FrameTooLarge."""
    views = [memoryview(buffer) for buffer in buffers if len(buffer)]
    total_bytes = sum(len(view) for view in views)
    if total_bytes > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"a frame of {total_bytes} bytes is over the cap of {MAX_FRAME_BYTES}")
    offset = 0
    for pieces in _gather(views):
        header = _HEADER.pack(_MAGIC, _VERSION, epoch, frame_id, total_bytes, offset)
        checksum = zlib.crc32(header)
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
            offset += len(piece)
        yield b"".join((header, _CHECKSUM.pack(checksum), *pieces))


def _gather(views: list[memoryview]) -> Iterator[list[memoryview]]:
    """Group `views`, cut where needed, into runs of at most PART_BYTES."""
    pieces: list[memoryview] = []
    room = PART_BYTES
    for view in views:
        while view:
            piece, view = view[:room], view[room:]
            pieces.append(piece)
            room -= len(piece)
            if room == 0:
                yield pieces
                pieces, room = [], PART_BYTES
    if pieces:
        yield pieces


@dataclass(slots=True)
class _Partial:
    """A frame whose first `filled_bytes` have come. Memory that no part has reached yet is not touched."""

    frame: memoryview
    filled_bytes: int = 0


class Assembler:
    """Joins the parts of one stream. Parts of several frames may interleave; those of one frame come in order."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._open: dict[int, _Partial] = {}

    def add(self, part: bytes) -> memoryview | None:
        """Take one part; return the frame once it is whole.

        Raises CorruptFrame (not a part of ours, damaged, out of order), FrameTooLarge, ForeignFrame (other epoch).
        """
        frame_id, total_bytes, offset, payload = self._parse(part)
        if offset == 0 and len(payload) == total_bytes and frame_id not in self._open:
            return payload
        return self._append(frame_id, total_bytes, offset, payload)

    def _parse(self, part: bytes) -> tuple[int, int, int, memoryview]:
        if len(part) > MAX_MESSAGE_BYTES:
            raise FrameTooLarge(f"a part of {len(part)} bytes is over the cap of {MAX_MESSAGE_BYTES}")
        if len(part) <= HEADER_BYTES:
            raise CorruptFrame(f"a part of {len(part)} bytes is shorter than its header")
        magic, version, epoch, frame_id, total_bytes, offset = _HEADER.unpack_from(part)
        if magic != _MAGIC or version != _VERSION:
            raise CorruptFrame(f"not a part of ours: magic {magic!r}, version {version}")
        view = memoryview(part)
        payload = view[HEADER_BYTES:]
        (checksum,) = _CHECKSUM.unpack_from(part, _HEADER.size)
        if zlib.crc32(payload, zlib.crc32(view[: _HEADER.size])) != checksum:
            raise CorruptFrame(f"checksum of frame {frame_id} at offset {offset} does not match")
        if epoch != self._epoch:
            raise ForeignFrame(f"frame {frame_id} is of epoch {epoch}, this is epoch {self._epoch}")
        if total_bytes > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"frame {frame_id} of {total_bytes} bytes is over the cap of {MAX_FRAME_BYTES}")
        return frame_id, total_bytes, offset, payload

    def _append(self, frame_id: int, total_bytes: int, offset: int, payload: memoryview) -> memoryview | None:
        if frame_id not in self._open:
            if len(self._open) == MAX_OPEN_FRAMES:
                raise FrameTooLarge(f"more than {MAX_OPEN_FRAMES} frames are open at once")
            self._open[frame_id] = _Partial(np.empty(total_bytes, np.uint8).data)
        partial = self._open[frame_id]
        end = offset + len(payload)
        if offset != partial.filled_bytes or end > len(partial.frame) or total_bytes != len(partial.frame):
            raise CorruptFrame(f"part of frame {frame_id} at offset {offset} does not follow the one before it")
        partial.frame[offset:end] = payload
        partial.filled_bytes = end
        return self._open.pop(frame_id).frame if end == total_bytes else None


def join(parts: Iterable[bytes], *, epoch: int) -> Iterator[memoryview]:
    """Yield the frames that the parts of one stream make up, each once it is whole. Raises as `Assembler.add`."""
    assembler = Assembler(epoch)
    for part in parts:
        frame = assembler.add(part)
        if frame is not None:
            yield frame
