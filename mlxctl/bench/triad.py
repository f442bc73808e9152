"""Measured memory bandwidth: c = a + s * b over large arrays, on the GPU by MLX, without one by NumPy.

Run by environment as a process of its own, so that nothing of it stays: `python -m mlxctl.bench.triad`, bytes a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

ARRAY_BYTES = 128 << 20
REPEATS = 5


def measure(array_bytes: int = ARRAY_BYTES) -> float:
    """Bytes a second of the fastest of a few passes, on the device that MLX computes on.

    NumPy on one core stands in for a CPU: MLX's own additions there are slower than its memory.
    """
    count = array_bytes // 4
    on_gpu = mx.default_device() == mx.Device(mx.gpu)
    work, moved_arrays = _with_mlx(count) if on_gpu else _with_numpy(count)
    work()
    times_s = []
    for _ in range(REPEATS):
        began_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - began_s)
    return moved_arrays * count * 4 / min(times_s)


def _with_mlx(count: int) -> tuple[Callable[[], None], int]:
    first, second = mx.ones((count,), mx.float32), mx.ones((count,), mx.float32)
    mx.eval(first, second)

    def add(a: Any, b: Any) -> Any:
        return a + 0.5 * b

    compiled: Any = mx.compile(add)
    return lambda: mx.eval(compiled(first, second)), 3


def _with_numpy(count: int) -> tuple[Callable[[], None], int]:
    first, second, result = (np.ones(count, np.float32) for _ in range(3))

    def triad() -> None:
        np.multiply(second, np.float32(0.5), out=result)
        np.add(first, result, out=result)

    return triad, 5


if __name__ == "__main__":
    print(measure())
