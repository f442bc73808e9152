"""Which sequences are decoded together, and whose turn it is. Pure; called by the scheduler."""

from __future__ import annotations

from collections.abc import Sequence

from mlxctl.coordinator.lanes import Lane, LaneBook
from mlxctl.coordinator.limits import Limits
from mlxctl.coordinator.pacing import LANES_PER_STAGE, lane_count
from mlxctl.coordinator.session import Session
from mlxctl.coordinator.step_times import StepTimes

REBALANCE_EVERY = 64  # results, and whenever sequences have left


class Placement:
    """The lanes of one pipeline, kept as many and as even as the measured `times` say."""

    def __init__(self, limits: Limits, book: LaneBook, times: StepTimes) -> None:
        self._limits = limits
        self._book = book
        self._times = times
        self._turns: list[Lane] = []
        self._results = 0
        self._is_uneven = False

    @property
    def rows(self) -> tuple[int, ...]:
        """Sequences in each lane."""
        return tuple(len(lane.sessions) for lane in self._book.lanes)

    def place(self, ready: list[Session]) -> None:
        """Give `ready`, sequences whose prompts are computed, their lanes; empties it."""
        if not ready:
            return
        target = self._target(len(ready) + sum(self.rows))
        joining: dict[int, list[Session]] = {}
        for session in ready:
            if len(self._book.lanes) < target:
                self._is_uneven = bool(self._book.lanes)
                self._book.open(session)
                self._turns.append(self._book.lanes[-1])
            else:
                place = min(range(len(self._book.lanes)), key=lambda at: self._fit(at, joining.get(at, ()), session))
                joining.setdefault(place, []).append(session)
        for place, sessions in joining.items():
            self._book.join(self._book.lanes[place], sessions)
        ready.clear()

    def next_turn(self) -> Lane | None:
        """The lane whose step is to go out, if the stages can take another one's."""
        decoding = sum(lane.in_flight > 0 for lane in self._book.lanes)
        if not self._turns or decoding >= LANES_PER_STAGE * self._limits.stages:
            return None
        lane = self._turns.pop(0)
        lane.is_changed = False
        return lane

    def next_ahead(self) -> Lane | None:
        """A lane whose next step can go out before its tokens are known, unless others wait or lanes are to change."""
        if self._turns or self._is_uneven:
            return None
        return next((lane for lane in self._book.lanes if lane.can_run_ahead), None)

    def landed(self, lane: Lane) -> None:
        """A step of `lane` has come back."""
        self._results += 1
        lane.in_flight -= 1
        if lane in self._book.lanes and not lane.in_flight:
            self._turns.append(lane)

    def close(self, lane: Lane) -> int:
        """End `lane`; its caches go on under the handle returned."""
        if lane in self._turns:
            self._turns.remove(lane)
        return self._book.close(lane)

    def left(self) -> None:
        """Sequences have left their lanes."""
        self._is_uneven = True

    def rebalance(self) -> None:
        """Bring the number of lanes and their sizes nearer to what the measured step times say, one move at a time,
        now and then, and until it is done where sequences have left or a lane was opened.
        """
        if self._is_uneven or self._results % REBALANCE_EVERY == 0:
            self._is_uneven = self._move()

    def _move(self) -> bool:
        """Whether there is something to move, which waits for a lane under way, or may be followed by more."""
        rows = self.rows
        if not rows or not self._limits.batchable:
            return False
        target = self._target(sum(rows))
        share = -(-sum(rows) // target)
        lanes = sorted(self._book.lanes, key=lambda lane: len(lane.sessions))
        smallest, largest = lanes[0], lanes[-1]
        if len(rows) > target:
            if not smallest.in_flight:
                self._turns.remove(smallest)
                self._book.merge(smallest, lanes[1])
            return True
        if len(largest.sessions) > share and (len(rows) < target or len(largest.sessions) > len(smallest.sessions) + 1):
            if not largest.in_flight:
                self._split(largest, share, smallest if len(rows) == target else None)
            return True
        return False

    def _split(self, largest: Lane, share: int, smallest: Lane | None) -> None:
        count = len(largest.sessions) - share
        if smallest is not None:
            count = (len(largest.sessions) - len(smallest.sessions)) // 2
        self._book.split(largest, largest.sessions[-count:], smallest)
        if smallest is None:
            self._turns.append(self._book.lanes[-1])

    def _fit(self, place: int, joining: Sequence[Session], session: Session) -> tuple[int, int]:
        lane = self._book.lanes[place]
        return len(lane.sessions) + len(joining), abs(lane.longest - session.given)

    def _target(self, sequences: int) -> int:
        if not self._limits.batchable:
            return sequences
        return lane_count(self._times, self._limits.stages, sequences, len(self._book.lanes))
