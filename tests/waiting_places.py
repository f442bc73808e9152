"""Inputs that wait on a CPU as held ones do on CUDA, and threads whose streams others may use."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxctl.worker import held, steps
from mlxctl.worker.mlx_thread import MlxThread

TIMEOUT_S = 30.0


class _Gate:
    """A .npy file of one byte, whose reader waits until `opened`: so does all that follows on the reader's stream."""

    closed = False

    def __init__(self) -> None:
        content = io.BytesIO()
        np.save(content, np.zeros(1, np.uint8))
        self._content = content
        self._content.seek(0)
        self.is_waiting = threading.Event()
        self.opened = threading.Event()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()

    def readinto(self, buffer: Any) -> int:
        place = memoryview(buffer).cast("B")
        if self._content.tell() + len(place) >= len(self._content.getvalue()):
            self.is_waiting.set()
            assert self.opened.wait(TIMEOUT_S)
        return self._content.readinto(place)


class WaitingPlace(held.Place):
    """A Place for whose release a stream of the CPU waits."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._gate = _Gate()
        stream = mx.new_thread_unsafe_stream(mx.cpu)
        self._reader = threading.Thread(target=self._read, args=(self._gate, stream), daemon=True)
        self._reader.start()
        assert self._gate.is_waiting.wait(TIMEOUT_S)
        self.array = mx.add(self.array, mx.array(0, mx.uint8), stream=stream)

    @staticmethod
    def _read(gate: _Gate, stream: Any) -> None:
        load: Any = mx.load
        load(gate, format="npy", stream=stream)

    def release(self) -> None:
        self._gate.opened.set()
        self._reader.join(TIMEOUT_S)


@contextmanager
def threads_that_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[MlxThread, MlxThread]]:
    """One that builds, one that schedules ahead; with inputs that wait here if the device's own do not."""
    if not held.is_possible():
        monkeypatch.setattr(steps, "HeldPlace", WaitingPlace)
        monkeypatch.setattr(held, "is_possible", lambda: True)
    threads = MlxThread(), MlxThread("ahead")
    try:
        yield threads
    finally:
        for thread in threads:
            thread.close()
