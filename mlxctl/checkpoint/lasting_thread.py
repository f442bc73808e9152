"""The thread that watches models beside an event loop. It lasts as long as the process. Called by launch.

A thread that used MLX takes the interpreter's lock once more as it ends, after Python has joined it. A loop's pool of
threads ends just before a script does: the interpreter had ended by then, and the process was aborted.
"""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

SETTLE_S = 0.01

T = TypeVar("T")


async def beside_loop(job: Callable[[], T]) -> T:
    """What `job` returns or raises, run in the lasting thread after the jobs before it."""
    return await asyncio.wrap_future(_submit(job))


def _submit(job: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    _jobs().put((job, future))
    return future


@cache
def _jobs() -> queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]:
    jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
    threading.Thread(target=_run, args=(jobs,), name="lasting", daemon=True).start()
    atexit.register(_settle)
    return jobs


def _run(jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
    while True:
        job, future = jobs.get()
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(job())
        except BaseException as error:  # whatever it is belongs to the waiting caller
            future.set_exception(error)
        del job, future


def _settle() -> None:
    """Return once the thread waits for a job that never comes: a waiting thread does not end with the interpreter."""
    _submit(lambda: None).result()
    time.sleep(SETTLE_S)  # from the result on to waiting
