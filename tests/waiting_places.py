"""What stands in, where there is no CUDA, for a device that waits for its inputs: a thread that does so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from mlxctl.worker import held, steps
from mlxctl.worker.mlx_thread import MlxThread, T

TIMEOUT_S = 30.0


class WaitingPlace(held.Place):
    """A Place for whose release the next one of the jobs waits that a WaitingThread is given."""

    new: list[WaitingPlace]

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.released = threading.Event()
        self.new.append(self)

    def release(self) -> None:
        self.released.set()


class WaitingThread(MlxThread):
    """It begins to compute, as far as anybody can see, before the inputs are there."""

    def submit(self, job: Callable[[], T]) -> Future[T]:
        places, WaitingPlace.new = WaitingPlace.new, []

        def once_released() -> T:
            for place in places:
                assert place.released.wait(TIMEOUT_S), "a place was never released"
            return job()

        return super().submit(once_released)


@contextmanager
def threads_that_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[MlxThread, MlxThread]]:
    """One that builds, one that schedules ahead."""
    on_device = held.is_possible()
    if not on_device:
        WaitingPlace.new = []
        monkeypatch.setattr(steps, "HeldPlace", WaitingPlace)
        monkeypatch.setattr(held, "is_possible", lambda: True)
    threads = MlxThread(), MlxThread("ahead") if on_device else WaitingThread("ahead")
    try:
        yield threads
    finally:
        for thread in threads:
            thread.close()
            thread.join()
