"""How long steps take, as measured: what the scheduler decides by. Pure; fed by the engine with each result."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CHUNKS = (2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
COMMON_TOKENS = 64  # of a chunk that a few more tokens would be part of
TRIALS = 3
SAMPLES = 9  # the median of so many: a machine hiccups
KEPT_CHUNKS = 64
TYPICAL = 0.25  # a quantile: chunks of one size take the longer the more the cache holds, and first trials are early
MOST_SHAPES = 100_000
FIRST_REST = 8  # chunks after which a size that did not pay gets its trials again, then twice as many, and so on
NEARLY = 0.95  # of a size counts as it: prompts end a token before a round number


@dataclass(frozen=True, slots=True)
class StepTime:
    """What one step takes on the slowest stage and on all stages together, in seconds."""

    slowest_s: float
    total_s: float


@dataclass(slots=True)
class _ChunkTimes:
    """What the last chunks of one size took, `warm` those whose shape the device knew, on the slowest stage; how many
    more are trials, which say little; after how many chunks of all sizes these ended.
    """

    last: deque[StepTime] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    warm_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_CHUNKS))
    trials_left: int = TRIALS
    tried_at: int = 0
    rest: int = FIRST_REST

    @property
    def typical_s(self) -> float:
        """The slowest stage's time for a chunk whose shape it knows, or the least where it knew none."""
        if not self.warm_s:
            return min(step.slowest_s for step in self.last)
        return sorted(self.warm_s)[int(TYPICAL * len(self.warm_s))]


class StepTimes:
    """Of recent steps, decode steps by rows, prefill chunks by tokens: medians, and what chunks of known shape take."""

    def __init__(self) -> None:
        self._decode: dict[int, deque[StepTime]] = {}
        self._chunks: dict[int, _ChunkTimes] = {}
        self._chunk_count = 0
        self._shapes: set[tuple[int, int]] = set()

    def add_decode(self, rows: int, stage_s: Sequence[float]) -> None:
        """One step of `rows` sequences took `stage_s` seconds, stage by stage."""
        self._decode.setdefault(rows, deque(maxlen=SAMPLES)).append(StepTime(max(stage_s), sum(stage_s)))

    def add_chunk(self, tokens: int, stage_s: Sequence[float], offset: int = 0) -> None:
        """One chunk of `tokens` tokens behind `offset` others took `stage_s` seconds, stage by stage. Odd sizes count
        as the next smaller. A device may have to get to know each shape: the first chunk of each says little.
        """
        size = max((size for size in CHUNKS if NEARLY * size <= tokens), default=None)
        if size is None:
            return
        chunk = self._chunks.setdefault(size, _ChunkTimes())
        chunk.last.append(StepTime(max(stage_s), sum(stage_s)))
        if (tokens, offset) in self._shapes:
            chunk.warm_s.append(max(stage_s))
        elif len(self._shapes) < MOST_SHAPES:
            self._shapes.add((tokens, offset))
        self._chunk_count += 1
        if chunk.trials_left:
            chunk.trials_left -= 1
            chunk.tried_at = self._chunk_count

    def reconsider(self, sizes: Sequence[int]) -> None:
        """Give that one of `sizes` its trials again which has had its rest, the least tried first: its chunks may have
        been cold. To be called as a prompt begins, so that trials are of the same lengths of the cache.
        """
        tried = [self._chunks[size] for size in sizes if self.is_believed(size)]
        rested = [chunk for chunk in tried if self._chunk_count - chunk.tried_at >= chunk.rest]
        if rested:
            again = min(rested, key=lambda chunk: chunk.rest)
            again.trials_left = TRIALS
            again.rest *= 2

    def decode(self, rows: int) -> StepTime | None:
        """A step of `rows` sequences: measured, between the next smaller and larger numbers that were, or beyond the
        largest on the line from half of it. With one number measured all others cost the same: trying measures them.
        """
        below = _nearest(self._decode, rows)
        above = min((measured for measured in self._decode if measured >= rows), default=None)
        if below is None:
            return None
        if above is None:
            below, above = _nearest(self._decode, below // 2) or below, below
        low, high = _median(self._decode[below]), _median(self._decode[above])
        share = (rows - below) / (above - below) if above > below else 0.0
        slowest_s = low.slowest_s + share * (high.slowest_s - low.slowest_s)
        total_s = low.total_s + share * (high.total_s - low.total_s)
        if rows > above:
            return StepTime(max(high.slowest_s, slowest_s), max(high.total_s, total_s))
        return StepTime(slowest_s, total_s)

    def chunk(self, tokens: int) -> StepTime | None:
        """A chunk of `tokens` tokens: in proportion to the nearest size measured, on top of a single token's time."""
        measured = _nearest(self._chunks, tokens)
        if measured is None:
            return None
        known, one = _median(self._chunks[measured].last), self.decode(1) or StepTime(0.0, 0.0)
        share = tokens / measured

        def at(known_s: float, one_s: float) -> float:
            base_s = one_s if one_s < known_s else 0.0
            return base_s + (known_s - base_s) * share

        return StepTime(at(known.slowest_s, one.slowest_s), at(known.total_s, one.total_s))

    def prompt_s(self, tokens: int) -> float:
        """What `tokens` more in a chunk take on all stages together; 0 where nothing was measured yet."""
        chunk, longer = self.chunk(COMMON_TOKENS), self.chunk(COMMON_TOKENS + tokens)
        return 0.0 if chunk is None or longer is None else longer.total_s - chunk.total_s

    def is_tried(self, tokens: int) -> bool:
        """Whether chunks of this size were measured."""
        return tokens in self._chunks

    def is_believed(self, tokens: int) -> bool:
        """Whether chunks of this size have had their trials."""
        return tokens in self._chunks and not self._chunks[tokens].trials_left

    def hoped_chunk_s(self, tokens: int) -> float | None:
        """The slowest stage's time for a chunk; during the TRIALS of this size the best to hope for, so that a size
        that may pay gets them.
        """
        typical_s = {size: chunk.typical_s for size, chunk in self._chunks.items()}
        if not typical_s:
            return None
        tried_s = {size: typical_s[size] for size, chunk in self._chunks.items() if not chunk.trials_left}
        at_best_pace_s = tokens * min(known_s / size for size, known_s in typical_s.items())
        one = self.decode(1)
        known_s = tried_s if one is None else {1: one.slowest_s, **tried_s}
        return tried_s.get(tokens) or min(at_best_pace_s, _extrapolated_s(known_s, tokens))


def _extrapolated_s(known_s: Mapping[int, float], tokens: int) -> float:
    """On the line through the next two smaller sizes, as larger chunks may take less a token; infinite without."""
    smaller = sorted(size for size in known_s if size < tokens)[-2:]
    if len(smaller) < 2:
        return math.inf
    low, high = smaller
    slope_s = max(0.0, known_s[high] - known_s[low]) / (high - low)
    return known_s[high] + slope_s * (tokens - high)


def _nearest(times: Mapping[int, object], size: int) -> int | None:
    smaller = [measured for measured in times if measured <= size]
    return max(smaller) if smaller else min(times, default=None)


def _median(samples: Sequence[StepTime]) -> StepTime:
    slowest_s = statistics.median(sample.slowest_s for sample in samples)
    return StepTime(slowest_s, statistics.median(sample.total_s for sample in samples))
