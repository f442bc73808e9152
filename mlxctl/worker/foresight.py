"""Steps built before their frames come, where lanes follow each other evenly. Used by the runner, on its thread.

Building a graph takes Python a millisecond or two, which is there while other stages compute. For a lane that is alone
it is best spent just before the frame comes: a core that has rested computes its first operations slowly, and building
wakes it up. Where several lanes take turns, it is spent as soon as no frame waits. A device that can wait for its input
by itself (mlxctl/worker/held.py) is given the whole next step of a lane that is alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from mlxctl.sharding import Shard, ShardCache
from mlxctl.worker import held
from mlxctl.worker.gate import Arrival
from mlxctl.worker.mlx_thread import MlxThread
from mlxctl.worker.steps import BuiltStep, ForeseenStep, StepForm

log = logging.getLogger(__name__)

EVEN_STEPS = 3  # in a row, each one token a row, before the next ones are built ahead
SENT_TIMEOUT_S = 1.0
MARGIN_S = 0.001  # a core stays awake for longer, and frames come early at times
CAUTION = 0.2  # share of a change that is believed at once where believing it may make the graph late
HELD_S = 0.5  # for which a device waits for a frame at most: nothing else is computed meanwhile
WAITED_SHARE = 0.5  # of it: a lane whose frames stay away for longer is not waited for


@dataclass(frozen=True, slots=True)
class _Expected:
    """A step whose frame is to come."""

    form: StepForm
    cache: ShardCache


class Foresight:
    """At most one step of each lane of `shard`, built ahead or about to be. With `ahead`, a thread that may compute on
    this one's stream, the device waits for the frame of one of them.
    """

    def __init__(self, shard: Shard, ahead: MlxThread | None = None) -> None:
        self._shard = shard
        self._ahead = ahead
        self._expected: dict[int, _Expected] = {}  # by lane, the longest expected first
        self._foreseen: dict[int, ForeseenStep] = {}
        self._held: int | None = None  # the lane for whose frame the device waits
        self._held_until_s = 0.0
        self._taken: BuiltStep | None = None  # the latest one that was held
        self._lanes: deque[int] = deque(maxlen=EVEN_STEPS + 1)  # of the latest steps
        self._sent_s = 0.0
        self._gap_s = 0.0  # from sending a step of a lane that is alone to the frame of the next one
        self._build_s = 0.0

    def take(self, form: StepForm, arrival: Arrival) -> BuiltStep | None:
        """The graph of the step that has come, of `form`, if it was built ahead; undoes what was built for another."""
        self._settle()
        if self._held != form.lane:
            self.let_go()
        expected, foreseen = self._expected.pop(form.lane, None), self._foreseen.pop(form.lane, None)
        is_expected = expected is not None and expected.form == form
        if is_expected and self._is_alone:
            gap_s = arrival.arrived_s - self._sent_s
            self._gap_s = min(gap_s, self._gap_s + CAUTION * (gap_s - self._gap_s))
        if foreseen is None:
            return None
        if self._held == form.lane:
            self._held, self._taken = None, foreseen.built
        if not is_expected:
            foreseen.undo()
            return None
        try:
            foreseen.fill(arrival.header.token_ids, arrival.tensors)
        except Exception:
            foreseen.undo()
            raise
        return foreseen.built

    def forget(self) -> None:
        """Caches are about to change: undo what was built, build nothing."""
        self._settle()
        for foreseen in self._foreseen.values():
            foreseen.undo()
        self._foreseen.clear()
        self._expected.clear()
        self._held = None

    def let_go(self) -> None:
        """Instead of the frame that the device waits for, if it does, comes another one, or none: undo its step, build
        nothing until steps are even again.
        """
        if self._held is None:
            return
        self._foreseen.pop(self._held).undo()
        self._held = None
        self._gap_s = max(self._gap_s, time.monotonic() - self._sent_s)
        self._pause()

    def sent(self, form: StepForm, cache: ShardCache, sent: threading.Event) -> None:
        """A step is being computed; after some even ones the next one of its lane may be built. If the lane is alone
        that is once this one is `sent`, as building takes the interpreter, which sending needs; waits for that.
        """
        following = form.following()
        if following is None:
            self._pause()
            return
        self._lanes.append(form.lane)
        if len(self._lanes) <= EVEN_STEPS or (self._is_alone and not sent.wait(SENT_TIMEOUT_S)):
            return
        self._sent_s = time.monotonic()
        self._expected[form.lane] = _Expected(following, cache)

    def wait_s(self) -> float | None:
        """For how long to wait for a frame until there is something to `do`; None: there is not."""
        if self._held is not None:
            return max(0.0, self._held_until_s - time.monotonic())
        lane = self._next_lane()
        if lane is None:
            return None
        if not self._is_alone or self._can_hold(self._expected[lane]):
            return 0.0
        return max(0.0, self._sent_s + self._gap_s - self._build_s - MARGIN_S - time.monotonic())

    def do(self) -> float:
        """Build the step that has been expected for longest, or let go the one that has been held for too long; the
        seconds that building took.
        """
        if self._held is not None:
            self.let_go()
            return 0.0
        lane = self._next_lane()
        assert lane is not None
        expected, began_s = self._expected[lane], time.monotonic()
        try:
            self._foreseen[lane] = self._foresee(lane, expected)
        except Exception:  # the step before is on its way: do without
            log.exception("a step could not be built ahead")
            self._pause()
        build_s = time.monotonic() - began_s
        self._build_s = max(build_s, self._build_s + CAUTION * (build_s - self._build_s))
        return build_s

    def _foresee(self, lane: int, expected: _Expected) -> ForeseenStep:
        if self._ahead is None or not self._can_hold(expected):
            return ForeseenStep.build(self._shard, expected.cache, expected.form)
        step = ForeseenStep.held(self._shard, expected.cache, expected.form, self._ahead)
        self._held, self._held_until_s = lane, time.monotonic() + HELD_S
        return step

    def _can_hold(self, expected: _Expected) -> bool:
        return (
            self._ahead is not None
            and self._is_alone
            and self._gap_s < WAITED_SHARE * HELD_S
            and expected.cache.can_step_back
            and sum(expected.form.tensor_bytes) <= held.MOST_BYTES
        )

    def _settle(self) -> None:
        """The other thread may still be at what was held: it has its frame, so that this does not take long."""
        if self._taken is not None:
            self._taken.wait_until_scheduled()
            self._taken = None

    def _pause(self) -> None:
        """Build nothing until steps are even again. What was built stays for its frame."""
        self._lanes.clear()
        self._expected = {lane: self._expected[lane] for lane in self._foreseen}

    @property
    def is_holding(self) -> bool:
        """Whether the device waits for a frame."""
        return self._held is not None

    @property
    def _is_alone(self) -> bool:
        return len(self._lanes) > EVEN_STEPS and len(set(self._lanes)) == 1

    def _next_lane(self) -> int | None:
        return next((lane for lane in self._expected if lane not in self._foreseen), None)
