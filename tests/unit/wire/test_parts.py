"""Frames cut into parts and joined again; everything else refused with a typed error."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.errors import CorruptFrame, ForeignFrame, FrameTooLarge, WireError
from mlxctl.wire import parts
from mlxctl.wire.parts import HEADER_BYTES, PART_BYTES, Assembler, split

pytestmark = pytest.mark.unit


def join(pieces: list[bytes], epoch: int = 7) -> bytes | None:
    assembler = Assembler(epoch)
    whole = [frame for part in pieces if (frame := assembler.add(part)) is not None]
    assert len(whole) <= 1
    return bytes(whole[0]) if whole else None


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5).filter(lambda buffers: any(buffers)))
def test_a_frame_of_any_buffers_arrives_whole(buffers: list[bytes]) -> None:
    assert join(list(split(buffers, epoch=7, frame_id=1))) == b"".join(buffers)


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 17])
def test_no_part_is_larger_than_a_mebibyte_and_its_header(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    pieces = list(split([data[:size]], epoch=7, frame_id=1))
    assert max(len(piece) for piece in pieces) <= PART_BYTES + HEADER_BYTES
    assert len(pieces) == -(-size // PART_BYTES)
    assert join(pieces) == data[:size]


def test_a_frame_of_more_than_100_megabytes_arrives_whole() -> None:
    data = bytearray(120_000_000)
    data[::4096] = b"x" * len(data[::4096])
    assert join(list(split([data], epoch=7, frame_id=1))) == bytes(data)


def test_parts_of_two_frames_may_interleave() -> None:
    first, second = bytes(2 * PART_BYTES), b"\x01" * (2 * PART_BYTES)
    streams = (split([first], epoch=7, frame_id=1), split([second], epoch=7, frame_id=2))
    assembler = Assembler(7)
    mixed = itertools.chain.from_iterable(zip(*streams, strict=True))
    frames = [bytes(frame) for part in mixed if (frame := assembler.add(part)) is not None]
    assert frames == [first, second]


@given(position=st.integers(min_value=0, max_value=HEADER_BYTES + 99), bit=st.integers(min_value=0, max_value=7))
def test_one_flipped_bit_anywhere_is_refused(position: int, bit: int) -> None:
    damaged = bytearray(next(split([b"a" * 100], epoch=7, frame_id=1)))
    damaged[position] ^= 1 << bit
    with pytest.raises(WireError):
        Assembler(7).add(bytes(damaged))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Assembler(7).add(data)


def test_a_truncated_part_is_refused() -> None:
    whole = next(split([b"a" * 100], epoch=7, frame_id=1))
    with pytest.raises(CorruptFrame):
        Assembler(7).add(whole[:-1])


def test_a_missing_part_is_refused() -> None:
    first, _, third = split([bytes(3 * PART_BYTES)], epoch=7, frame_id=1)
    assembler = Assembler(7)
    assembler.add(first)
    with pytest.raises(CorruptFrame, match="does not follow"):
        assembler.add(third)


def test_a_part_of_another_epoch_is_refused() -> None:
    (part,) = split([b"late"], epoch=6, frame_id=1)
    with pytest.raises(ForeignFrame, match="epoch 6"):
        Assembler(7).add(part)


def test_an_oversized_message_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(FrameTooLarge):
        Assembler(7).add(bytes(parts.MAX_MESSAGE_BYTES + 1))


def test_a_frame_over_the_cap_is_refused_by_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(FrameTooLarge, match="1001 bytes"):
        list(split([bytes(1001)], epoch=7, frame_id=1))


def test_a_frame_that_announces_more_than_the_cap_is_refused_by_the_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = list(split([bytes(1001)], epoch=7, frame_id=1))
    monkeypatch.setattr(parts, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(FrameTooLarge):
        Assembler(7).add(pieces[0])


def test_too_many_open_frames_are_refused() -> None:
    assembler = Assembler(7)
    with pytest.raises(FrameTooLarge, match="open at once"):
        for frame_id in range(parts.MAX_OPEN_FRAMES + 1):
            assembler.add(next(split([bytes(2 * PART_BYTES)], epoch=7, frame_id=frame_id)))


def test_the_header_is_as_long_as_the_protocol_says() -> None:
    assert struct.calcsize("<2sBxIQII") + struct.calcsize("<I") == HEADER_BYTES
