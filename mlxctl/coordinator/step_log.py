"""What each of the last steps took, from sending a frame to its result: a ring buffer for `/status` and `/metrics`."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

from mlxctl.rpc import shard_pb2

KEPT_STEPS = 512


@dataclass(frozen=True, slots=True)
class StageStep:
    """Where one stage's time went, in seconds: waiting for the frame, the frame waiting for the stage, building the
    graph, evaluating it, making bytes of the results.
    """

    wait_s: float
    queue_s: float
    graph_s: float
    eval_s: float
    serialize_s: float

    @classmethod
    def of(cls, time: shard_pb2.StageTime) -> Self:
        spent_us = (time.wait_us, time.queue_us, time.graph_us, time.eval_us, time.serialize_us)
        return cls(*(each / 1e6 for each in spent_us))


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """One frame of `rows` x `columns` tokens: seconds until its result, and where each stage's went.

    `compute_s` are graph and eval without what steps before took; `wire_s` is neither queue nor computing nor
    serializing on any stage: on the wire, or in buffers along it.
    """

    rows: int
    columns: int
    round_trip_s: float
    compute_s: float
    wire_s: float
    stages: tuple[StageStep, ...]

    @classmethod
    def of(cls, rows: int, columns: int, round_trip_s: float, times: Sequence[shard_pb2.StageTime]) -> Self:
        compute_s = sum(time.compute_us for time in times) / 1e6
        beside_s = sum(time.queue_us + time.serialize_us for time in times) / 1e6
        wire_s = max(0.0, round_trip_s - compute_s - beside_s)
        return cls(rows, columns, round_trip_s, compute_s, wire_s, tuple(map(StageStep.of, times)))


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

    def came_back(self, lane: int, step: int, times: Sequence[shard_pb2.StageTime]) -> None:
        """Log the step, if it was sent. One sent ahead of this result counts from now: until now it only waited."""
        sent = self._under_way.pop((lane, step), None)
        ahead = self._under_way.get((lane, step + 1))
        if ahead is not None:
            self._under_way[lane, step + 1] = (*ahead[:2], time.monotonic())
        if sent is None:
            return
        rows, columns, sent_s = sent
        logged = LoggedStep.of(rows, columns, time.monotonic() - sent_s, times)
        self.last.append(logged)
        self.steps += 1
        self.round_trip_s += logged.round_trip_s
        self.wire_s += logged.wire_s

    def decode_medians_s(self) -> dict[str, float | None]:
        """Medians over the decode steps kept: round trip, computing on all stages, and the wire. None without any."""
        steps = self._decode_steps()
        return {
            "round_trip_s": statistics.median(step.round_trip_s for step in steps) if steps else None,
            "compute_s": statistics.median(step.compute_s for step in steps) if steps else None,
            "wire_s": statistics.median(step.wire_s for step in steps) if steps else None,
        }

    def stage_medians_s(self, stage: int) -> Mapping[str, float] | None:
        """Medians of StageStep over the decode steps kept; None without any."""
        steps = [step.stages[stage] for step in self._decode_steps() if len(step.stages) > stage]
        if not steps:
            return None
        return {each.name: statistics.median(getattr(step, each.name) for step in steps) for each in fields(StageStep)}

    def _decode_steps(self) -> list[LoggedStep]:
        return [step for step in list(self.last) if step.columns == 1]
