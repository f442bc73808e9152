"""Where frames wait: those that came, by their sender, and parts on their way out. Called by the mesh.

One condition guards everything that came: a thread that waits for one rank is also told when another one dies.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from mlxctl.errors import RankLost, TimedOut

WAITING_BYTES = 256 << 20  # of one sender; beyond it nothing more is read from its connection
PARTS_AHEAD = 8  # of at most 1 MiB each

Frame = memoryview


class Inbox:
    """Frames of each rank in the order in which they were sent, point-to-point ones apart from those of collectives."""

    def __init__(self, ranks: Iterable[int]) -> None:
        self._changed = threading.Condition()
        self._frames: dict[tuple[int, bool], deque[Frame]] = {
            (rank, collective): deque() for rank in ranks for collective in (False, True)
        }
        self._bytes = dict.fromkeys({rank for rank, _ in self._frames}, 0)
        self._joined: set[int] = set()
        self._left: set[int] = set()
        self._lost: dict[int, str] = {}

    def join(self, source: int) -> bool:
        """The connection from `source` is there; false if it was before."""
        with self._changed:
            is_new = source not in self._joined
            self._joined.add(source)
            self._changed.notify_all()
            return is_new

    def put(self, source: int, collective: bool, frame: Frame) -> None:
        """Keep a frame; return once there is room for more, or nobody will take any."""
        with self._changed:
            self._frames[source, collective].append(frame)
            self._bytes[source] += len(frame)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._bytes[source] <= WAITING_BYTES or source in self._lost)

    def leave(self, source: int) -> None:
        """`source` ended in good order: what it has sent is here, and there is no more."""
        with self._changed:
            self._left.add(source)
            self._changed.notify_all()

    def lose(self, source: int, reason: str) -> None:
        """`source` died or was cut off. What it had sent before can still be taken."""
        with self._changed:
            if source not in self._left:
                self._lost.setdefault(source, reason)
                self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes anything any more."""
        with self._changed:
            for source in self._bytes:
                self._lost.setdefault(source, "this rank has left")
            self._changed.notify_all()

    def take(self, source: int, collective: bool, deadline_s: float) -> Frame:
        """The next frame of `source`. Raises TimedOut, RankLost; in a collective for any rank that is lost."""
        frames = self._frames[source, collective]

        def over() -> bool:
            return bool(frames) or source in self._left or source in self._lost or (collective and bool(self._lost))

        with self._changed:
            in_time = self._changed.wait_for(over, max(0.0, deadline_s - time.monotonic()))
            if frames:
                frame = frames.popleft()
                self._bytes[source] -= len(frame)
                self._changed.notify_all()
                return frame
            if not in_time:
                raise TimedOut(f"nothing came from rank {source} in time")
            raise self._absent(source)

    def wait_for_all(self, deadline_s: float) -> None:
        """Return once every rank has joined. Raises TimedOut, RankLost."""
        everybody = set(self._bytes)
        with self._changed:
            self._changed.wait_for(
                lambda: self._joined >= everybody or bool(self._lost), max(0.0, deadline_s - time.monotonic())
            )
            missing = sorted(everybody - self._joined)
            if missing and self._lost:
                raise self._absent(missing[0])
            if missing:
                raise TimedOut(f"rank {', '.join(map(str, missing))} did not join in time")

    def require(self, rank: int) -> None:
        """Raises RankLost if `rank` has left or is lost."""
        with self._changed:
            if rank in self._left or rank in self._lost:
                raise self._absent(rank)

    def _absent(self, rank: int) -> RankLost:
        if rank in self._left:
            return RankLost(f"rank {rank} has left")
        lost = rank if rank in self._lost else min(self._lost)
        return RankLost(f"rank {lost} is lost: {self._lost[lost]}")


class Outbox:
    """Parts on their way to one rank: gRPC takes them one by one, whoever sends waits for room."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parts: deque[bytes] = deque()
        self._over = False

    def put(self, parts: Iterable[bytes], deadline_s: float, fault: Callable[[], None]) -> None:
        """Hand over all parts of a frame. Raises TimedOut, or what `fault` raises once the connection is over."""
        for part in parts:
            with self._changed:
                left_s = max(0.0, deadline_s - time.monotonic())
                if not self._changed.wait_for(lambda: len(self._parts) < PARTS_AHEAD or self._over, left_s):
                    raise TimedOut("the other rank does not take what is sent to it")
                if self._over:
                    fault()
                    raise RankLost("this rank has left")
                self._parts.append(part)
                self._changed.notify_all()

    def close(self, last: Iterable[bytes] = ()) -> None:
        """No more parts come but the `last`; those that are here still go out."""
        with self._changed:
            if not self._over:
                self._parts.extend(last)
            self._over = True
            self._changed.notify_all()

    def __iter__(self) -> Outbox:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._parts or self._over)
            if not self._parts:
                raise StopIteration
            part = self._parts.popleft()
            self._changed.notify_all()
            return part
