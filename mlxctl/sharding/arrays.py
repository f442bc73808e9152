"""Arrays to bytes and back, bit for bit, for every dtype and shape. Called by the boundary codec and the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, cast

import mlx.core as mx
import numpy as np

from mlxctl.errors import CorruptFrame

MAX_DIMENSIONS = 16

_NAMES = (
    "bool_ uint8 int8 uint16 int16 float16 bfloat16 uint32 int32 float32 uint64 int64 float64 complex64".split()  # noqa: SIM905
)
DTYPES: Mapping[str, Any] = {str(getattr(mx, name)).rpartition(".")[2]: getattr(mx, name) for name in _NAMES}


def dtype_name(x: mx.array) -> str:
    """The dtype as it travels: `float32`, `bfloat16`, `bool` …"""
    return str(x.dtype).rpartition(".")[2]


def byte_view(x: mx.array) -> mx.array:
    """`x` as a flat, contiguous uint8 array; lazy, so evaluate it before taking its memoryview."""
    return mx.contiguous(x).reshape(-1).view(mx.uint8)


def array_bytes(x: mx.array) -> memoryview:
    """The bytes of `x`, row by row; evaluates `x`, copies only what is not contiguous."""
    flat = byte_view(x)
    mx.eval(flat)
    return memoryview(cast(Any, flat))


def array_from_bytes(dtype: str, shape: Sequence[int], data: bytes | bytearray | memoryview | mx.array) -> mx.array:
    """The array that `array_bytes` took apart; one copy, none of a flat uint8 array. Raises CorruptFrame."""
    check_header(dtype, shape)
    kind = DTYPES[dtype]
    expected = prod(shape) * kind.size
    if len(data) != expected:
        raise CorruptFrame(f"a {dtype} array of shape {tuple(shape)} has {expected} bytes, not {len(data)}")
    flat = data if isinstance(data, mx.array) else mx.array(np.frombuffer(data, np.uint8))
    return flat.view(kind).reshape(tuple(shape))


def check_header(dtype: Any, shape: Any) -> None:
    """Raises CorruptFrame unless an array of this dtype name and shape can exist."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CorruptFrame(f"unknown dtype {dtype!r}")
    if not isinstance(shape, Sequence) or len(shape) > MAX_DIMENSIONS:
        raise CorruptFrame(f"impossible shape {shape!r}")
    if not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise CorruptFrame(f"impossible shape {shape!r}")
