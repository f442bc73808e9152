"""Inputs whose bytes come later than the graph that hangs on them. Used by the steps that are built ahead.

A plain one can be written to until its graph is scheduled. For a held one the device itself waits, so that all of a
step can be scheduled before its frame has come: a fast GPU is done with each operation sooner than the next one is
encoded, which a stage that has its step encoded already need not wait for. MLX has no operation that waits for the
host but those of its own collectives, so a kernel does, which reads a word of host memory until that is set. CUDA
alone: what Apple's GPUs make of a kernel that waits has not been tried. Nor where workers share a GPU, whose time such
a kernel takes from the others.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import mlx.core as mx
import numpy as np

from mlxctl.gpus import is_gpu_shared
from mlxctl.wire.parts import Buffer

MOST_BYTES = 1 << 20  # one block of threads copies them
_THREADS = 512
_HEAD_WORDS = 2  # whether all is there, and how many words follow
_SOURCE = """
    volatile const unsigned int* host = reinterpret_cast<volatile const unsigned int*>(words);
    if (threadIdx.x == 0) {
        while (host[0] == 0) { __nanosleep(100); }
    }
    __syncthreads();
    __threadfence_system();
    const unsigned int count = host[1];
    for (unsigned int i = threadIdx.x; i < count; i += blockDim.x) { out[i] = host[i + 2]; }
"""


def is_possible() -> bool:
    """Whether the device can wait for an input, and nobody else of ours for the device."""
    return bool(mx.cuda.is_available()) and mx.default_device() == mx.Device(mx.gpu) and not is_gpu_shared()


def warm_up() -> None:
    """Compile the kernel."""
    place = HeldPlace(4)
    place.write(bytes(4))
    place.release()
    mx.eval(place.array)


class Place:
    """`size_bytes` of an input, `array` in the graph: uint8 [size_bytes], zeros until they are written."""

    def __init__(self, size_bytes: int) -> None:
        self.array = mx.array(np.zeros(size_bytes, np.uint8))
        self._bytes = np.asarray(self.array)

    def write(self, data: Buffer | mx.array | np.ndarray) -> None:
        """Put the bytes of `data`, as many, there."""
        self._bytes[:] = np.asarray(memoryview(cast(Any, data))).reshape(-1).view(np.uint8)

    def release(self) -> None:
        """Everything is written."""


class HeldPlace(Place):
    """One for which the device waits until it is released, which must come to pass."""

    def __init__(self, size_bytes: int) -> None:
        count = -(-size_bytes // 4)
        host = mx.array(np.zeros(_HEAD_WORDS + count, np.uint32))
        self._words = np.asarray(host)
        self._words[1] = count
        self._bytes = self._words[_HEAD_WORDS:].view(np.uint8)[:size_bytes]
        self.array = _waiting(host, count).view(mx.uint8)[:size_bytes]

    def release(self) -> None:
        self._words[0] = 1


def _waiting(host: mx.array, count: int) -> mx.array:
    """The last `count` words of `host` once its first one is set."""
    outputs: list[mx.array] = _kernel()(
        inputs=[host],
        grid=(_THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[(count,)],
        output_dtypes=[mx.uint32],
    )
    return outputs[0]


@cache
def _kernel() -> Any:
    return mx.fast.cuda_kernel(name="mlxctl_held", input_names=["words"], output_names=["out"], source=_SOURCE)
