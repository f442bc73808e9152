"""Which request starts next: a bounded queue with two priorities. Called by the scheduler."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator

from mlxctl.coordinator.session import Session
from mlxctl.errors import Overloaded

STARTS = 8  # the last ones tell how fast places become free
RETRY_AFTER_S = 5  # while nothing is known
MAX_RETRY_AFTER_S = 60


class Queue:
    """Waiting sessions, at most `limit`. Interactive ones before batch ones, each in the order in which they came."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._starts_s: deque[float] = deque(maxlen=STARTS)
        self._interactive: deque[Session] = deque()
        self._batch: deque[Session] = deque()

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    def __iter__(self) -> Iterator[Session]:
        yield from self._interactive
        yield from self._batch

    def check(self) -> None:
        """Raises Overloaded if no other session may wait."""
        if len(self) >= self._limit:
            raise Overloaded(f"{self._limit} requests are waiting already", retry_after_s=self._until_free_s())

    def put(self, session: Session) -> None:
        self._of(session).append(session)

    def remove(self, id: int) -> bool:
        """Drop the session `id`; False if it does not wait."""
        session = next((session for session in self if session.id == id), None)
        if session is not None:
            self._of(session).remove(session)
        return session is not None

    def take(self, is_startable: Callable[[Session], bool]) -> Session | None:
        """The first session that can start now, which waits no longer."""
        session = next(filter(is_startable, self), None)
        if session is not None:
            self._of(session).remove(session)
            self._starts_s.append(self._clock())
        return session

    def clear(self) -> None:
        self._interactive.clear()
        self._batch.clear()

    def _until_free_s(self) -> int:
        """Seconds in which lately one session started, which is when a place becomes free."""
        if len(self._starts_s) < 2:
            return RETRY_AFTER_S
        each_s = (self._clock() - self._starts_s[0]) / len(self._starts_s)
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(each_s)))

    def _of(self, session: Session) -> deque[Session]:
        return self._interactive if session.request.priority == "interactive" else self._batch
