"""Step and result frames to bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.errors import CorruptFrame
from mlxctl.rpc import shard_pb2
from mlxctl.wire.frames import MAX_HEADER_BYTES, Frame, parse_result, parse_step

pytestmark = pytest.mark.unit


def as_bytes(frame: Frame[shard_pb2.FrameHeader]) -> memoryview:
    return memoryview(b"".join(bytes(buffer) for buffer in frame.buffers()))


def step_header(tensor_bytes: Sequence[int]) -> shard_pb2.FrameHeader:
    return shard_pb2.FrameHeader(
        deployment="d", epoch=1, lane=3, step=4, rows=1, columns=2, token_ids=[5, 6], tensor_bytes=tensor_bytes
    )


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_tensors_come_back_byte_for_byte(payloads: list[bytes]) -> None:
    sizes = [len(data) for data in payloads]
    parsed = parse_step(as_bytes(Frame(step_header(sizes), tuple(payloads))))
    assert [bytes(tensor) for tensor in parsed.tensors] == payloads
    assert list(parsed.header.token_ids) == [5, 6]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_anything_but_a_corrupt_frame(data: bytes) -> None:
    for parse in (parse_step, parse_result):
        try:
            parse(memoryview(data))
        except CorruptFrame:
            continue


@pytest.mark.parametrize(
    "header",
    [
        shard_pb2.FrameHeader(rows=2, columns=2, token_ids=[1, 2, 3]),
        shard_pb2.FrameHeader(rows=2, columns=1, token_ids=[1, 2], positions=[1]),
        shard_pb2.FrameHeader(tensor_bytes=[8]),
    ],
    ids=["token count", "sampling rows", "tensor bytes"],
)
def test_a_header_that_does_not_add_up_is_refused(header: shard_pb2.FrameHeader) -> None:
    with pytest.raises(CorruptFrame):
        parse_step(as_bytes(Frame(header)))


def test_an_absurd_header_length_is_refused_before_anything_is_read() -> None:
    with pytest.raises(CorruptFrame, match="announces a header"):
        parse_step(memoryview(struct.pack("<I", MAX_HEADER_BYTES + 1) + bytes(10)))


def test_bytes_behind_a_result_are_refused() -> None:
    result = b"".join(bytes(b) for b in Frame(shard_pb2.ResultHeader(lane=1)).buffers())
    assert parse_result(memoryview(result)).lane == 1
    with pytest.raises(CorruptFrame, match="after a result"):
        parse_result(memoryview(result + b"x"))
