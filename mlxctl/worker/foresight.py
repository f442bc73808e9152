"""Steps built before their frames come, where one lane has the pipeline to itself. Used by the runner, on its thread.

Building a graph takes Python a millisecond or two, which is there while other stages compute. It is best spent just
before the frame comes: a core that has rested computes its first operations slowly, and building wakes it up.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from mlxctl.sharding import Shard, ShardCache
from mlxctl.worker.gate import Arrival
from mlxctl.worker.steps import BuiltStep, ForeseenStep, StepForm

log = logging.getLogger(__name__)

ALONE_STEPS = 3  # in a row of one lane before the next one is built ahead
SENT_TIMEOUT_S = 1.0
MARGIN_S = 0.001  # a core stays awake for longer, and frames come early at times
CAUTION = 0.2  # share of a change that is believed at once where believing it may make the graph late


@dataclass(frozen=True, slots=True)
class _Expected:
    """A step whose frame is to come."""

    form: StepForm
    cache: ShardCache


class Foresight:
    """At most one step of `shard`, built ahead or about to be."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._foreseen: ForeseenStep | None = None
        self._expected: _Expected | None = None
        self._lane = 0
        self._alone = 0
        self._sent_s = 0.0
        self._gap_s = 0.0  # from sending a step to the frame of the next one
        self._build_s = 0.0

    def take(self, form: StepForm, arrival: Arrival) -> BuiltStep | None:
        """The graph of the step that has come, of `form`, if it was built ahead; undoes what was built for another."""
        expected, foreseen = self._expected, self._foreseen
        self._expected = self._foreseen = None
        is_expected = expected is not None and expected.form == form
        if is_expected:
            gap_s = arrival.arrived_s - self._sent_s
            self._gap_s = min(gap_s, self._gap_s + CAUTION * (gap_s - self._gap_s))
        if foreseen is None:
            return None
        if not is_expected:
            foreseen.undo()
            return None
        foreseen.fill(arrival.header.token_ids, arrival.tensors)
        return foreseen.built

    def forget(self) -> None:
        """Caches are about to change: undo what was built, build nothing."""
        if self._foreseen is not None:
            self._foreseen.undo()
        self._expected = self._foreseen = None

    def sent(self, form: StepForm, cache: ShardCache, sent: threading.Event) -> None:
        """A step is being computed. If its lane has been alone for a while the next one may be built once it is `sent`,
        as building takes the interpreter, which sending needs; waits for that.
        """
        self._alone = self._alone + 1 if form.lane == self._lane else 0
        self._lane = form.lane
        following = form.following() if self._alone >= ALONE_STEPS else None
        if following is not None and sent.wait(SENT_TIMEOUT_S):
            self._sent_s = time.monotonic()
            self._expected = _Expected(following, cache)

    def wait_s(self) -> float | None:
        """For how long to wait for a frame until it is time to `build`; None: there is nothing to build."""
        if self._expected is None or self._foreseen is not None:
            return None
        return max(0.0, self._sent_s + self._gap_s - self._build_s - MARGIN_S - time.monotonic())

    def build(self) -> float:
        """Build the step that is expected; the seconds it took."""
        assert self._expected is not None
        began_s = time.monotonic()
        try:
            self._foreseen = ForeseenStep.build(self._shard, self._expected.cache, self._expected.form)
        except Exception:  # the step before is on its way: do without
            log.exception("a step could not be built ahead")
            self._expected, self._alone = None, 0
        build_s = time.monotonic() - began_s
        self._build_s = max(build_s, self._build_s + CAUTION * (build_s - self._build_s))
        return build_s
