"""Lanes of sequences decoded together, and the cache operations by which these join, leave, move. Used by Scheduler."""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxctl.coordinator.session import Session


class Kind(enum.Enum):
    """See CacheOperation in protos/mlxctl/v1/shard.proto."""

    NEW = "new"
    FREE = "free"
    COPY = "copy"
    JOIN = "join"
    KEEP = "keep"
    SPLIT = "split"


@dataclass(frozen=True, slots=True)
class Operation:
    """What every stage does to its caches before the step that it rides on."""

    kind: Kind
    handle: int
    others: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    tokens: int = 0


@dataclass(slots=True, eq=False)
class Lane:
    """Caches `handle`, a row for each of `sessions`. While steps are `in_flight`, its next tokens are being drawn;
    `is_changed` since the last one was sent: the next one's rows are others.
    """

    handle: int
    sessions: list[Session]
    in_flight: int = 0
    is_changed: bool = False

    @property
    def can_run_ahead(self) -> bool:
        """Whether a step can follow the one in flight before its tokens are known here."""
        return self.in_flight == 1 and not self.is_changed and all(one.can_run_ahead for one in self.sessions)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence: shorter ones are padded to it."""
        return max(session.given for session in self.sessions)

    @property
    def charge_tokens(self) -> int:
        """Tokens of cache that must be there for all rows to finish, padding included."""
        return len(self.sessions) * max(session.charge_tokens for session in self.sessions)


@dataclass(slots=True)
class LaneBook:
    """All lanes, and the operations not yet sent. Frames keep their order on every stage, so
    an operation may be noted while a frame of the lane is under way.
    """

    lanes: list[Lane] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    steps: Counter[int] = field(default_factory=Counter)
    handles: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def new(self) -> int:
        """Empty caches for one sequence."""
        handle = next(self.handles)
        self.operations.append(Operation(Kind.NEW, handle))
        return handle

    def copy(self, source: int, tokens: int) -> int:
        """Caches with the first `tokens` tokens of those of `source`, one sequence."""
        handle = next(self.handles)
        self.operations.append(Operation(Kind.COPY, handle, others=(source,), tokens=tokens))
        return handle

    def free(self, handle: int) -> None:
        self.steps.pop(handle, None)
        self.operations.append(Operation(Kind.FREE, handle))

    def open(self, session: Session) -> None:
        """A lane of its own for `session`."""
        self.lanes.append(Lane(session.handle, [session]))

    def join(self, lane: Lane, sessions: Sequence[Session]) -> None:
        """Give `sessions`, each alone with its handle, rows in `lane`."""
        self._join(lane.handle, [session.handle for session in sessions])
        lane.sessions.extend(sessions)
        lane.is_changed = True

    def merge(self, lane: Lane, into: Lane) -> None:
        """Move all rows of `lane`, which is not in flight and is no more, into another."""
        self._join(into.handle, [lane.handle])
        into.sessions.extend(lane.sessions)
        into.is_changed = True
        self.lanes.remove(lane)

    def split(self, lane: Lane, sessions: Sequence[Session], into: Lane | None) -> None:
        """Move the rows of `sessions`, some of `lane`'s, which is not in flight, into another lane or a new one."""
        handle = self.take_out(lane, sessions)
        if into is None:
            self.lanes.append(Lane(handle, list(sessions)))
        else:
            self._join(into.handle, [handle])
            into.sessions.extend(sessions)
            into.is_changed = True

    def take_out(self, lane: Lane, sessions: Sequence[Session]) -> int:
        """The rows of `sessions`, some of `lane`'s, as caches of their own."""
        handle = next(self.handles)
        rows = tuple(row for row, session in enumerate(lane.sessions) if session in sessions)
        self.operations.append(Operation(Kind.SPLIT, handle, others=(lane.handle,), rows=rows))
        lane.sessions = [session for session in lane.sessions if session not in sessions]
        lane.is_changed = True
        return handle

    def drop(self, lane: Lane, sessions: Sequence[Session]) -> None:
        """Take the rows of `sessions` out of `lane`, some of whose rows stay."""
        rows = tuple(row for row, session in enumerate(lane.sessions) if session not in sessions)
        self.operations.append(Operation(Kind.KEEP, lane.handle, rows=rows))
        lane.sessions = [session for session in lane.sessions if session not in sessions]
        lane.is_changed = True

    def close(self, lane: Lane) -> int:
        """End `lane`; its caches go on under the handle returned, one row for each session it had."""
        self.lanes.remove(lane)
        return lane.handle

    def take_step(self, handle: int) -> int:
        """The number of the next step of `handle`."""
        self.steps[handle] += 1
        return self.steps[handle] - 1

    def take_operations(self) -> tuple[Operation, ...]:
        """The operations noted since the last time."""
        operations, self.operations = tuple(self.operations), []
        return operations

    def _join(self, handle: int, others: Sequence[int]) -> None:
        for other in others:
            self.steps.pop(other, None)
        self.operations.append(Operation(Kind.JOIN, handle, others=tuple(others)))
