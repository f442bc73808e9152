"""What each of the last steps took, from sending a frame to its result: a ring buffer for `/status` and reports."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

KEPT_STEPS = 512


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """One frame of `rows` x `columns` tokens: seconds until its result, and of these what each stage computed."""

    rows: int
    columns: int
    round_trip_s: float
    compute_s: tuple[float, ...]

    @property
    def wire_s(self) -> float:
        """Not computing: on the wire, or waiting behind other frames."""
        return max(0.0, self.round_trip_s - sum(self.compute_s))


class StepLog:
    """The last steps, and sums over all. Written under the engine's lock."""

    def __init__(self) -> None:
        self.last: deque[LoggedStep] = deque(maxlen=KEPT_STEPS)
        self.steps = 0
        self.round_trip_s = 0.0
        self.wire_s = 0.0
        self._under_way: dict[tuple[int, int], tuple[int, int, float]] = {}

    def sent(self, lane: int, step: int, rows: int, columns: int) -> None:
        self._under_way[lane, step] = (rows, columns, time.monotonic())

    def came_back(self, lane: int, step: int, compute_s: Sequence[float]) -> None:
        """Log the step, if it was sent. One sent ahead of this result counts from now: until now it only waited."""
        sent = self._under_way.pop((lane, step), None)
        ahead = self._under_way.get((lane, step + 1))
        if ahead is not None:
            self._under_way[lane, step + 1] = (*ahead[:2], time.monotonic())
        if sent is None:
            return
        rows, columns, sent_s = sent
        logged = LoggedStep(rows, columns, time.monotonic() - sent_s, tuple(compute_s))
        self.last.append(logged)
        self.steps += 1
        self.round_trip_s += logged.round_trip_s
        self.wire_s += logged.wire_s

    def decode_medians_s(self) -> dict[str, float | None]:
        """Medians over the decode steps kept: round trip, computing on all stages, and the rest. None without any."""
        steps = [step for step in list(self.last) if step.columns == 1]
        return {
            "round_trip_s": statistics.median(step.round_trip_s for step in steps) if steps else None,
            "compute_s": statistics.median(sum(step.compute_s) for step in steps) if steps else None,
            "wire_s": statistics.median(step.wire_s for step in steps) if steps else None,
        }
