"""A thread that computes with MLX. Used by the worker's service, and by the runner for steps that wait for their frame.

MLX streams belong to the thread that made them and lazy arrays cannot cross threads: what builds a graph belongs on one
thread. Where steps are scheduled ahead (mlxctl/worker/held.py) its stream is one that another thread may use in turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import mlx.core as mx

from mlxctl.worker import held

T = TypeVar("T")


class MlxThread:
    """One thread of this name that runs what is submitted to it, in order."""

    def __init__(self, name: str = "mlx") -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """End once what was submitted is done."""
        self._jobs.put(None)

    def join(self) -> None:
        """Return once it has ended."""
        self._thread.join()

    def _run(self) -> None:
        if held.is_possible():
            mx.set_default_stream(mx.new_thread_unsafe_stream(mx.default_device()))
        while (entry := self._jobs.get()) is not None:
            job, future = entry
            try:
                future.set_result(job())
            except BaseException as error:  # whatever it is belongs to the waiting caller
                future.set_exception(error)
