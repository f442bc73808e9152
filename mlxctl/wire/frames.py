"""Frames: a protobuf header and the tensors behind it, as bytes. Built by the coordinator and by each stage."""

from __future__ import annotations

import struct
from collections.abc import Sequence
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
class Tensor:
    """One array in flat little-endian bytes: `dtype` as MLX names it, `data` of exactly its size."""

    dtype: str
    shape: tuple[int, ...]
    data: Buffer


@dataclass(frozen=True, slots=True)
class Frame(Generic[Header]):
    """A header and, for a step on its way through the stages, the tensors that it describes."""

    header: Header
    tensors: tuple[Tensor, ...] = ()

    def buffers(self) -> list[Buffer]:
        """The frame as flat buffers, in order, without copying a tensor."""
        header = self.header.SerializeToString()
        return [_LENGTH.pack(len(header)), header, *(tensor.data for tensor in self.tensors)]


def describe(tensors: Sequence[Tensor]) -> list[shard_pb2.Tensor]:
    """The header entries for `tensors`."""
    return [shard_pb2.Tensor(dtype=t.dtype, shape=t.shape, bytes=len(t.data)) for t in tensors]


def parse_step(data: memoryview) -> Frame[shard_pb2.FrameHeader]:
    """A step frame from its bytes. Raises CorruptFrame if the header, token count or tensor sizes do not add up."""
    header, rest = _parse(data, shard_pb2.FrameHeader())
    if header.rows * header.columns != len(header.token_ids):
        raise CorruptFrame(f"{len(header.token_ids)} token ids for {header.rows} x {header.columns}")
    if len(header.sampling) not in (0, header.rows) or len(header.positions) != len(header.sampling):
        raise CorruptFrame(f"{len(header.sampling)} sampling entries for {header.rows} rows")
    if sum(t.bytes for t in header.tensors) != len(rest):
        raise CorruptFrame(f"{len(rest)} bytes of tensors, the header announces another size")
    tensors = []
    for entry in header.tensors:
        tensors.append(Tensor(entry.dtype, tuple(entry.shape), rest[: entry.bytes]))
        rest = rest[entry.bytes :]
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
