"""Every value that can be sent comes back equal, of the same type; damaged bytes are refused."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.comm.codec import NUMPY_DTYPES, decode, encode
from mlxctl.errors import CorruptFrame, UsageError
from mlxctl.sharding.arrays import DTYPES

pytestmark = pytest.mark.unit

keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    keys,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner) | st.tuples(inner, st.binary())
    ),
)


def joined(value: Any) -> bytes:
    return b"".join(encode(value))


def exact(value: Any) -> str:
    """What tells 1 from True and (1,) from [1]."""
    return repr(value)


@given(values)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert exact(decode(joined(value))) == exact(value)


@pytest.mark.parametrize("dtype", sorted(NUMPY_DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 5), (2, 3, 4)])
def test_a_numpy_array_comes_back_bit_for_bit(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.arange(np.prod(shape)).reshape(shape) % 7).astype(dtype)
    back = decode(joined(x))
    assert type(back) is np.ndarray and back.dtype == x.dtype and back.shape == x.shape
    assert back.tobytes() == x.tobytes() and back.flags.writeable


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_an_mlx_array_comes_back_bit_for_bit(dtype: str, shape: tuple[int, ...]) -> None:
    with mx.stream(mx.cpu):
        x = mx.ones(shape).astype(DTYPES[dtype])
        back = decode(joined([x]))[0]
        assert isinstance(back, mx.array) and back.dtype == x.dtype and back.shape == x.shape
        assert mx.array_equal(back, x).item()


def test_an_array_that_does_not_lie_row_by_row_is_sent_row_by_row() -> None:
    x = np.arange(6, dtype=">i4").reshape(2, 3).T
    assert np.array_equal(decode(joined(x)), x)


def test_large_data_is_not_copied_before_it_is_sent() -> None:
    x = np.zeros(1 << 20, np.uint8)
    assert any(np.shares_memory(np.frombuffer(buffer, np.uint8), x) for buffer in encode({"x": x}) if len(buffer))


class Text(str):
    """Not plain."""


@pytest.mark.parametrize("value", [{1, 2}, object(), Text("x"), np.array(["x"]), [print], 1 << 9000])
def test_what_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot be sent"):
        encode(value)


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="nested"):
        encode(endless)


@given(values, st.data())
def test_bytes_that_are_cut_off_are_refused(value: Any, data: st.DataObject) -> None:
    whole = joined(value)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CorruptFrame):
        decode(whole[:end])


@given(st.binary())
def test_any_bytes_are_a_value_or_are_refused(data: bytes) -> None:
    try:
        decode(data)
    except CorruptFrame:
        return


def test_bytes_after_a_value_are_refused() -> None:
    with pytest.raises(CorruptFrame, match="after"):
        decode(joined(1) + b"N")


def test_a_key_that_cannot_be_one_is_refused() -> None:
    forged = b"d" + (2).to_bytes(8, "little") + joined([]) + joined(1)
    with pytest.raises(CorruptFrame, match="key"):
        decode(forged)


def test_a_shape_that_does_not_fit_its_bytes_is_refused() -> None:
    forged = joined(np.zeros(4, np.int8)).replace(joined((4,)), joined((5,)))
    with pytest.raises(CorruptFrame):
        decode(forged)
