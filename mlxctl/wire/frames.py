"""Frames: a protobuf header and the tensors behind it, as bytes. Built by the coordinator and by each stage."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError

from mlxctl.errors import CorruptFrame
from mlxctl.rpc import shard_pb2
from mlxctl.wire.parts import Buffer

MAX_HEADER_BYTES = 1 << 20

_LENGTH = struct.Struct("<I")
Header = TypeVar("Header", shard_pb2.FrameHeader, shard_pb2.ResultHeader)


@dataclass(frozen=True, slots=True)
class Frame(Generic[Header]):
    """A header and, for a step on its way through the stages, the flat bytes of its activation's arrays."""

    header: Header
    tensors: tuple[Buffer, ...] = ()

    def buffers(self) -> list[Buffer]:
        """The frame as flat buffers, in order, without copying a tensor."""
        header = self.header.SerializeToString()
        return [_LENGTH.pack(len(header)), header, *self.tensors]


def parse_step(data: memoryview) -> Frame[shard_pb2.FrameHeader]:
    """A step frame from its bytes. Raises CorruptFrame if the header, token count or tensor sizes do not add up."""
    header, rest = _parse(data, shard_pb2.FrameHeader())
    if (0 if header.drawn else header.rows * header.columns) != len(header.token_ids):
        raise CorruptFrame(f"{len(header.token_ids)} token ids for {header.rows} x {header.columns}")
    if len(header.positions) not in (0, header.rows) or len(header.recent) not in (0, len(header.positions)):
        raise CorruptFrame(f"{len(header.positions)} draws, {len(header.recent)} histories for {header.rows} rows")
    if sum(header.tensor_bytes) != len(rest):
        raise CorruptFrame(f"{len(rest)} bytes of tensors, the header announces {sum(header.tensor_bytes)}")
    tensors = []
    for size_bytes in header.tensor_bytes:
        tensors.append(rest[:size_bytes])
        rest = rest[size_bytes:]
    return Frame(header, tuple(tensors))


def parse_result(data: memoryview) -> shard_pb2.ResultHeader:
    """A result from its bytes. Raises CorruptFrame."""
    header, rest = _parse(data, shard_pb2.ResultHeader())
    if rest:
        raise CorruptFrame(f"{len(rest)} bytes after a result")
    return header


def _parse(data: memoryview, header: Header) -> tuple[Header, memoryview]:
    if len(data) < _LENGTH.size:
        raise CorruptFrame("a frame without a header length")
    (header_bytes,) = _LENGTH.unpack_from(data)
    if header_bytes > min(MAX_HEADER_BYTES, len(data) - _LENGTH.size):
        raise CorruptFrame(f"a frame of {len(data)} bytes announces a header of {header_bytes}")
    end = _LENGTH.size + header_bytes
    try:
        header.ParseFromString(bytes(data[_LENGTH.size : end]))
    except DecodeError as error:
        raise CorruptFrame("a frame header that cannot be decoded") from error
    return header, data[end:]
