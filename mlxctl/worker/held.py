"""Inputs whose bytes come later than the graph that hangs on them. Used by the steps that are built ahead.

A plain one can be written to until its graph is scheduled. For a held one the device itself waits, so that all of a
step can be scheduled before its frame has come: a fast GPU is done with each operation sooner than the next one is
encoded, which a stage that has its step encoded already need not wait for. MLX has no operation that waits for the
host but those of its own collectives, so a kernel does, which reads a word of host memory until that is set. CUDA
alone: what Apple's GPUs make of a kernel that waits has not been tried. Nor where workers share a GPU, whose time such
a kernel takes from the others.
"""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any, cast

import mlx.core as mx
import numpy as np

from mlxctl.errors import TimedOut
from mlxctl.gpus import has_nvidia_devices, is_gpu_shared
from mlxctl.wire.parts import Buffer

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20  # one block of threads copies them
_THREADS = 512
_RELEASED, _COUNT, _GIVEN_UP, _HEAD_WORDS = range(4)  # the first words: is all there, how many follow, was it too late
# Whoever releases may be waiting for the GPU itself, by way of a lock of an allocator's: nothing waits for ever.
_SOURCE = """
    volatile unsigned int* host = const_cast<unsigned int*>(reinterpret_cast<const unsigned int*>(words));
    if (threadIdx.x == 0) {
        const long long began = clock64();
        while (host[0] == 0) {
            __nanosleep(100);
            if (clock64() - began > 8000000000LL) {
                host[2] = 1;
                break;
            }
        }
    }
    __syncthreads();
    __threadfence_system();
    const unsigned int count = host[1];
    for (unsigned int i = threadIdx.x; i < count; i += blockDim.x) { out[i] = host[i + 3]; }
"""
_fence = threading.Lock()


def is_possible() -> bool:
    """Whether the device can wait for an input, and nobody else of ours for the device."""
    is_on_gpu = bool(mx.cuda.is_available()) and mx.default_device() == mx.Device(mx.gpu)
    return is_on_gpu and has_nvidia_devices() and not is_gpu_shared()


def works() -> bool:
    """Compile the kernel and try it; whether it does what it should."""
    try:
        place = HeldPlace(4)
        place.write(b"held")
        place.release()
        mx.eval(place.array)
        place.check()
        return bytes(memoryview(cast(Any, place.array))) == b"held"
    except Exception:
        log.exception("the device cannot wait for its inputs: steps are scheduled as their frames come")
        return False


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

    def check(self) -> None:
        """Raises TimedOut if what was computed came before what was written."""


class HeldPlace(Place):
    """One for which the device waits until it is released, which must come to pass."""

    def __init__(self, size_bytes: int) -> None:
        count = -(-size_bytes // 4)
        host = mx.array(np.zeros(_HEAD_WORDS + count, np.uint32))
        self._words = np.asarray(host)
        self._words[_COUNT] = count
        self._bytes = self._words[_HEAD_WORDS:].view(np.uint8)[:size_bytes]
        self.array = _waiting(host, count).view(mx.uint8)[:size_bytes]

    def release(self) -> None:
        with _fence:  # the bytes become visible first, on any processor
            pass
        self._words[_RELEASED] = 1

    def check(self) -> None:
        if self._words[_GIVEN_UP]:
            raise TimedOut("the device waited for its input in vain")


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
