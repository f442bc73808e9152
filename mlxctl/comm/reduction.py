"""Element-wise sum, mean, max and min of numbers and arrays of several ranks. Pure; called by the communicator.

Sums of 16-bit floats are made in float32. Whatever the order of arrival, equal input gives every rank equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, Literal, get_args

import mlx.core as mx
import numpy as np

from mlxctl.comm.codec import numpy_bytes, numpy_from_bytes
from mlxctl.errors import UsageError
from mlxctl.sharding.arrays import array_bytes, array_from_bytes, dtype_name
from mlxctl.wire.parts import Buffer

Op = Literal["sum", "mean", "max", "min"]
Signature = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Library:
    """What NumPy and MLX do alike, by their own names."""

    name: str
    of: dict[str, Callable[[Any, Any], Any]]
    join: Callable[[Sequence[Any]], Any]
    dtype: Callable[[Any], str]
    to_bytes: Callable[[Any], Buffer]
    from_bytes: Callable[[str, tuple[int, ...], Any], Any]
    wide: Any
    narrow_names: frozenset[str]


NUMPY = Library(
    "NumPy",
    {"sum": np.add, "mean": np.add, "max": np.maximum, "min": np.minimum},
    np.concatenate,
    lambda x: str(x.dtype.name),
    numpy_bytes,
    numpy_from_bytes,
    np.float32,
    frozenset({"float16"}),
)
MLX = Library(
    "MLX",
    {"sum": mx.add, "mean": mx.add, "max": mx.maximum, "min": mx.minimum},
    lambda parts: mx.concatenate(list(parts)),
    dtype_name,
    array_bytes,
    array_from_bytes,
    mx.float32,
    frozenset({"float16", "bfloat16"}),
)


class Reduction:
    """This rank's value in an all_reduce by `op`. Raises UsageError for values and operations without a meaning."""

    def __init__(self, value: Any, op: Op) -> None:
        if op not in get_args(Op):
            raise UsageError(f"{op!r} is no operation of all_reduce", hint=f"one of {', '.join(get_args(Op))}")
        self._op = op
        self._number = type(value) if type(value) in (int, float) else None
        array = np.asarray(value) if self._number or isinstance(value, np.generic) else value
        if not isinstance(array, np.ndarray | mx.array):
            raise UsageError(f"a {type(value).__name__} cannot be reduced: give a number, a NumPy or an MLX array")
        self._library = NUMPY if isinstance(array, np.ndarray) else MLX
        self._shape = tuple(array.shape)
        self._flat = array.reshape(-1)
        self._dtype = self._library.dtype(array)
        self._check()

    def _check(self) -> None:
        kind = self._dtype.rstrip("0123456789")
        meaningless = {
            "sum": ("bool", "object"),
            "mean": ("bool", "int", "uint", "object"),
            "max": ("complex", "object"),
            "min": ("complex", "object"),
        }[self._op]
        if kind in meaningless and not (self._number is int and self._dtype == "int64"):
            raise UsageError(f"the {self._op} of {self._dtype} is not defined", hint="convert the values to floats")

    @property
    def signature(self) -> Signature:
        """What must be the same on every rank."""
        kind = self._number.__name__ if self._number else f"{self._library.name} {self._dtype}"
        return kind, self._op, self._shape

    @property
    def size_bytes(self) -> int:
        return int(self._flat.nbytes)

    def data(self) -> Buffer:
        """This rank's whole value."""
        return self._library.to_bytes(self._flat)

    def of_all(self, data: Sequence[Buffer]) -> Any:
        """The result, from every rank's `data()` in rank order."""
        arrays = [self._widen(self._parse(each)) for each in data]
        return self._finish(reduce(self._library.of[self._op], arrays), len(data))

    def cut(self, count: int) -> list[Any]:
        """The value in `count` pieces of about equal length, some of them empty if it is short."""
        ends = [len(self._flat) * index // count for index in range(count + 1)]
        return [self._flat[start:stop] for start, stop in pairwise(ends)]

    def combine(self, piece: Any, data: Buffer) -> Any:
        """`piece` and another rank's, whose bytes are `data`, as one. Raises CorruptFrame."""
        both = self._library.of[self._op](self._widen(piece), self._widen(self._parse(data)))
        return both.astype(piece.dtype)

    def piece_data(self, piece: Any) -> Buffer:
        return self._library.to_bytes(piece)

    def join(self, data: Sequence[Buffer], ranks: int) -> Any:
        """The result, from the bytes of its pieces."""
        return self._finish(self._widen(self._library.join([self._parse(each) for each in data])), ranks)

    def _parse(self, data: Buffer) -> Any:
        size = max(1, self._flat.nbytes // max(1, self._flat.size))
        return self._library.from_bytes(self._dtype, (len(data) // size,), data)

    def _widen(self, x: Any) -> Any:
        return x.astype(self._library.wide) if self._dtype in self._library.narrow_names else x

    def _finish(self, x: Any, ranks: int) -> Any:
        if self._op == "mean":
            x = x / ranks
        if self._number:
            return x.item() if self._op == "mean" else self._number(x.item())
        return x.astype(self._flat.dtype).reshape(self._shape)
