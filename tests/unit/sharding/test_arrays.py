"""Arrays to bytes and back."""

from __future__ import annotations

import math

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxctl.errors import CorruptFrame
from mlxctl.sharding.arrays import DTYPES, array_bytes, array_from_bytes, byte_view, dtype_name

pytestmark = pytest.mark.unit

shapes = st.lists(st.integers(0, 4), max_size=4)


@settings(deadline=None)
@given(st.sampled_from([*DTYPES]), shapes, st.data())
def test_any_bytes_become_an_array_and_come_back(dtype: str, shape: list[int], data: st.DataObject) -> None:
    size = math.prod(shape) * DTYPES[dtype].size
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if dtype == "bool":
        raw = bytes(byte & 1 for byte in raw)
    array = array_from_bytes(dtype, shape, raw)
    assert (dtype_name(array), array.shape) == (dtype, tuple(shape))
    assert bytes(array_bytes(array)) == raw


def test_an_array_that_is_not_contiguous_travels_row_by_row() -> None:
    array = mx.arange(12).reshape(3, 4).T
    back = array_from_bytes("int32", (4, 3), array_bytes(array))
    assert mx.array_equal(back, array).item()


def test_bytes_of_an_evaluated_array_are_not_copied() -> None:
    flat = byte_view(mx.zeros((1 << 20,)))
    mx.eval(flat)
    before = mx.get_active_memory()
    view = array_bytes(flat)
    assert view.nbytes == 4 << 20
    assert mx.get_active_memory() - before < 1 << 20


def test_an_array_of_more_than_100_mb_travels() -> None:
    array = mx.arange(27_000_000, dtype=mx.int32)
    assert mx.array_equal(array_from_bytes("int32", array.shape, array_bytes(array)), array).item()


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [
        ("float32", (2,), b"1234567"),
        ("float32", (2,), b"123456789"),
        ("float32", (), b""),
        ("float31", (1,), b"1234"),
        ("__class__", (1,), b"1234"),
        ("int8", (-1, -1), b"1"),
        ("int8", (2**40, 0), b""),
        ("int8", (1,) * 17, b"1"),
    ],
)
def test_bytes_that_do_not_fit_are_a_corrupt_frame(dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(CorruptFrame):
        array_from_bytes(dtype, shape, data)
