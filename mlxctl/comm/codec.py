"""Values to bytes and back: Python's plain types, NumPy and MLX arrays, nested. Never code. Called by the communicator.

A value is a tag byte and what the tag asks for; lengths are 64-bit, numbers little-endian. Arrays of NumPy come back as
copies that can be written to (its scalars as arrays without dimensions), arrays of MLX as arrays of MLX. What is not
listed here cannot be sent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxctl.errors import CorruptFrame, UsageError
from mlxctl.sharding.arrays import array_bytes, array_from_bytes, dtype_name
from mlxctl.wire.parts import Buffer

MAX_DEPTH = 64
MAX_INT_BYTES = 1024
NUMPY_DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()  # noqa: SIM905
)
_INLINE_BYTES = 4096  # what is longer is not copied but sent from where it lies
_LENGTH = struct.Struct("<Q")
_FLOAT = struct.Struct("<d")


def encode(value: Any) -> list[Buffer]:
    """`value` as flat buffers in order. Raises UsageError for what cannot be sent; evaluates MLX arrays."""
    writer = _Writer()
    writer.put(value, 0)
    return writer.finish()


def decode(data: Buffer) -> Any:
    """The value that `encode` took apart. Raises CorruptFrame."""
    reader = _Reader(memoryview(data))
    value = reader.value(0)
    if reader.left:
        raise CorruptFrame(f"{reader.left} bytes after a value")
    return value


class _Writer:
    def __init__(self) -> None:
        self._done: list[Buffer] = []
        self._open = bytearray()

    def finish(self) -> list[Buffer]:
        if self._open:
            self._done.append(self._open)
        return self._done

    def put(self, value: Any, depth: int) -> None:
        value = np.asarray(value) if isinstance(value, np.generic) else value
        write = _WRITERS.get(type(value))
        if write is None:
            raise UsageError(f"a value of type {type(value).__name__} cannot be sent", hint=_SENDABLE)
        if depth > MAX_DEPTH:
            raise UsageError(f"a value nested deeper than {MAX_DEPTH} levels, or in itself, cannot be sent")
        write(self, value, depth)

    def _tag(self, tag: bytes, count: int) -> None:
        self._open += tag
        self._open += _LENGTH.pack(count)

    def _data(self, data: Buffer) -> None:
        if len(data) < _INLINE_BYTES:
            self._open += data
        else:
            self._done += [self._open, data]
            self._open = bytearray()

    def put_none(self, value: None, depth: int) -> None:
        self._open += b"N"

    def put_bool(self, value: bool, depth: int) -> None:
        self._open += b"T" if value else b"F"

    def put_int(self, value: int, depth: int) -> None:
        size = value.bit_length() // 8 + 1
        if size > MAX_INT_BYTES:
            raise UsageError(f"an int of {size} bytes cannot be sent: at most {MAX_INT_BYTES}")
        self._tag(b"i", size)
        self._open += value.to_bytes(size, "little", signed=True)

    def put_float(self, value: float, depth: int) -> None:
        self._open += b"f" + _FLOAT.pack(value)

    def put_str(self, value: str, depth: int) -> None:
        data = value.encode("utf-8", "surrogatepass")
        self._tag(b"s", len(data))
        self._data(data)

    def put_bytes(self, value: Any, depth: int) -> None:
        self._tag(b"b", len(value))
        self._data(value)

    def put_list(self, value: list[Any], depth: int) -> None:
        self._items(b"l", value, depth)

    def put_tuple(self, value: tuple[Any, ...], depth: int) -> None:
        self._items(b"t", value, depth)

    def put_dict(self, value: dict[Any, Any], depth: int) -> None:
        self._items(b"d", [each for pair in value.items() for each in pair], depth)

    def _items(self, tag: bytes, items: Any, depth: int) -> None:
        self._tag(tag, len(items))
        for item in items:
            self.put(item, depth + 1)

    def put_numpy(self, value: NDArray[Any], depth: int) -> None:
        name = value.dtype.name
        if name not in NUMPY_DTYPES:
            raise UsageError(f"a NumPy array of dtype {name} cannot be sent", hint=f"one of {', '.join(NUMPY_DTYPES)}")
        self._array(b"n", name, value.shape, numpy_bytes(value))

    def put_mlx(self, value: mx.array, depth: int) -> None:
        self._array(b"m", dtype_name(value), tuple(value.shape), array_bytes(value))

    def _array(self, tag: bytes, dtype: str, shape: tuple[int, ...], data: Buffer) -> None:
        self._tag(tag, len(data))
        self.put_str(dtype, 0)
        self._items(b"t", shape, 0)
        self._data(data)


_WRITERS: dict[type, Callable[[_Writer, Any, int], None]] = {
    type(None): _Writer.put_none,
    bool: _Writer.put_bool,
    int: _Writer.put_int,
    float: _Writer.put_float,
    str: _Writer.put_str,
    bytes: _Writer.put_bytes,
    list: _Writer.put_list,
    tuple: _Writer.put_tuple,
    dict: _Writer.put_dict,
    np.ndarray: _Writer.put_numpy,
    mx.array: _Writer.put_mlx,
}
_SENDABLE = "send None, bool, int, float, str, bytes, list, tuple, dict, NumPy and MLX arrays"


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._rest = data

    @property
    def left(self) -> int:
        return len(self._rest)

    def value(self, depth: int) -> Any:
        read = _READERS.get(bytes(self._take(1)))
        if read is None or depth > MAX_DEPTH:
            raise CorruptFrame("a value with an unknown tag" if read is None else "a value nested too deep")
        return read(self, depth)

    def _take(self, size: int) -> memoryview:
        if size > len(self._rest):
            raise CorruptFrame(f"a value announces {size} bytes, {len(self._rest)} are left")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _count(self) -> int:
        (count,) = _LENGTH.unpack(self._take(_LENGTH.size))
        return int(count)

    def read_int(self, depth: int) -> int:
        size = self._count()
        if size > MAX_INT_BYTES:
            raise CorruptFrame(f"an int of {size} bytes")
        return int.from_bytes(self._take(size), "little", signed=True)

    def read_float(self, depth: int) -> float:
        (value,) = _FLOAT.unpack(self._take(_FLOAT.size))
        return float(value)

    def read_str(self, depth: int) -> str:
        try:
            return bytes(self.read_data(depth)).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise CorruptFrame("text that is not UTF-8") from error

    def read_data(self, depth: int) -> memoryview:
        return self._take(self._count())

    def read_items(self, depth: int) -> Iterator[Any]:
        count = self._count()
        if count > self.left:  # an item takes a byte at least
            raise CorruptFrame(f"a value announces {count} items in {self.left} bytes")
        return (self.value(depth + 1) for _ in range(count))

    def read_dict(self, depth: int) -> dict[Any, Any]:
        items = list(self.read_items(depth))
        if len(items) % 2:
            raise CorruptFrame("a dict with a key that has no value")
        try:
            return dict(zip(items[::2], items[1::2], strict=True))
        except TypeError as error:
            raise CorruptFrame("a dict with a key that cannot be one") from error

    def read_array(self) -> tuple[Any, Any, memoryview]:
        size = self._count()
        dtype, shape = self.value(0), self.value(0)
        return dtype, shape, self._take(size)

    def read_numpy(self, depth: int) -> NDArray[Any]:
        dtype, shape, data = self.read_array()
        if (
            dtype not in NUMPY_DTYPES
            or type(shape) is not tuple
            or any(type(size) is not int or size < 0 for size in shape)
        ):
            raise CorruptFrame(f"no NumPy array has dtype {dtype!r} and shape {shape!r}")
        return numpy_from_bytes(dtype, shape, data)

    def read_mlx(self, depth: int) -> mx.array:
        dtype, shape, data = self.read_array()
        return array_from_bytes(dtype, shape, data)


_READERS: dict[bytes, Callable[[_Reader, int], Any]] = {
    b"N": lambda reader, depth: None,
    b"T": lambda reader, depth: True,
    b"F": lambda reader, depth: False,
    b"i": _Reader.read_int,
    b"f": _Reader.read_float,
    b"s": _Reader.read_str,
    b"b": lambda reader, depth: bytes(reader.read_data(depth)),
    b"l": lambda reader, depth: list(reader.read_items(depth)),
    b"t": lambda reader, depth: tuple(reader.read_items(depth)),
    b"d": _Reader.read_dict,
    b"n": _Reader.read_numpy,
    b"m": _Reader.read_mlx,
}


def numpy_bytes(x: NDArray[Any]) -> memoryview:
    """The bytes of `x`, row by row, little-endian; copies only what does not lie so already."""
    flat = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("<")).reshape(-1)
    return memoryview(cast(Any, flat.view(np.uint8)))


def numpy_from_bytes(dtype: str, shape: tuple[int, ...], data: Buffer) -> NDArray[Any]:
    """A writable array with a copy of `data`. Raises CorruptFrame."""
    try:
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype)
    except ValueError as error:
        raise CorruptFrame(f"{len(data)} bytes are no {dtype} array of shape {shape}") from error
