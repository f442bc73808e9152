"""How long clients wait: histograms of the time to the first token and between tokens. Fed by the engine."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

TTFT_BOUNDS_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
GAP_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many observations were at most each of `bounds_s`, in seconds; `cumulative` has one more, of all."""

    bounds_s: tuple[float, ...]
    cumulative: tuple[int, ...]
    sum_s: float


class Histogram:
    """Counts observations by size."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(self._bounds_s) + 1)
        self._sum_s = 0.0
        self._lock = threading.Lock()

    def observe(self, duration_s: float) -> None:
        """Count one."""
        place = bisect_left(self._bounds_s, duration_s)
        with self._lock:
            self._counts[place] += 1
            self._sum_s += duration_s

    def snapshot(self) -> Distribution:
        """What was counted up to now."""
        with self._lock:
            return Distribution(self._bounds_s, tuple(accumulate(self._counts)), self._sum_s)


class Latencies:
    """Both histograms of one engine."""

    def __init__(self) -> None:
        self.ttft = Histogram(TTFT_BOUNDS_S)
        self.gap = Histogram(GAP_BOUNDS_S)

    def observe_ttft(self, duration_s: float) -> None:
        """From a request's submission, waiting included, to its first token."""
        self.ttft.observe(duration_s)

    def observe_gap(self, duration_s: float) -> None:
        """Between two tokens of one request."""
        self.gap.observe(duration_s)
