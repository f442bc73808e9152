"""The engine: requests in, tokens out. Joins the scheduler's decisions to the pipeline's streams. Used by the API.

Whoever brings an event (a client's request, a result from the last stage) advances the scheduler under the lock and
sends what it says; no thread of the engine's own stands in between.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from mlxctl.coordinator.pipeline import Pipeline
from mlxctl.coordinator.scheduler import Emitted, Scheduler
from mlxctl.errors import ContextLengthExceeded, Degraded, MlxctlError, StageLost, TimedOut
from mlxctl.launch.stages import Leases, StageConnection
from mlxctl.request import FinishReason, GenerationRequest, TokenLogprob
from mlxctl.rpc import shard_pb2

log = logging.getLogger(__name__)

STEP_DEADLINE_S = 120.0  # without any result while frames are out
WATCH_EVERY_S = 1.0
RATE_WINDOW_S = 10.0


class RunningGeneration:
    """The asyncio side of one session: tokens arrive from the results thread, the client's task takes them."""

    def __init__(self, engine: PipelineEngine, lane: int) -> None:
        self._engine = engine
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._tokens: list[int] = []
        self._error: MlxctlError | None = None
        self._finish_reason: FinishReason | None = None
        self._over = False

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._finish_reason

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        return ()

    @property
    def cached_tokens(self) -> int:
        return 0

    def cancel(self) -> None:
        self._engine.cancel(self._lane)

    async def __aiter__(self) -> AsyncIterator[list[int]]:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            tokens, self._tokens = self._tokens, []
            if tokens:
                yield tokens
            if self._error is not None:
                raise self._error
            if self._over and not self._tokens:
                return

    def deliver(self, emitted: Emitted) -> None:
        """Called on any thread."""
        self._call(self._take, emitted)

    def fail(self, error: MlxctlError) -> None:
        """Called on any thread."""
        self._call(self._take_error, error)

    def _call(self, function: object, argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)  # type: ignore[arg-type]
        except RuntimeError:
            log.debug("lane %d: its event loop has closed", self._lane)

    def _take(self, emitted: Emitted) -> None:
        if emitted.token is not None:
            self._tokens.append(emitted.token)
        if emitted.finish_reason is not None:
            self._finish_reason, self._over = emitted.finish_reason, True
        self._arrived.set()

    def _take_error(self, error: MlxctlError) -> None:
        self._error = error
        self._arrived.set()


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """What `/status` shows of the requests."""

    running: int
    waiting: int
    completed: int
    failed: int
    cancelled: int
    tokens_generated: int
    tokens_per_s: float


class PipelineEngine:
    """Serves GenerationRequests on a loaded pipeline until a stage is lost or it is closed."""

    def __init__(
        self, stages: Sequence[StageConnection], leases: Leases, *, context: int, concurrency: int, queue_limit: int
    ) -> None:
        self.context = context
        self._lock = threading.RLock()
        self._scheduler = Scheduler(len(stages), concurrency, queue_limit)
        self._generations: dict[int, RunningGeneration] = {}
        self._problem: MlxctlError | None = None
        self._draining = False
        self._completed = self._failed = self._cancelled = self._tokens = 0
        self._recent: deque[float] = deque(maxlen=4096)
        self._progress_s = time.monotonic()
        self._closed = threading.Event()
        self._pipeline = Pipeline(stages, self._on_result, self._on_lost)
        leases.on_lost = self._on_lost
        self._watch = threading.Thread(target=self._watch_progress, name="watchdog", daemon=True)
        self._watch.start()

    @property
    def stages(self) -> tuple[StageConnection, ...]:
        return self._pipeline.stages

    @property
    def problem(self) -> MlxctlError | None:
        """Why nothing is served any more; None while all stages work."""
        return self._problem

    def submit(self, request: GenerationRequest) -> RunningGeneration:
        """Queue `request`. Raises Overloaded, Degraded, ContextLengthExceeded. Needs a running event loop."""
        wanted = len(request.prompt) + request.max_tokens
        if wanted > self.context:
            raise ContextLengthExceeded(f"prompt and answer need {wanted} tokens, the context is {self.context}")
        with self._lock:
            if self._problem is not None:
                raise Degraded(f"the cluster cannot serve: {self._problem.line}", hint="mlxctl up --recreate")
            if self._draining:
                raise Degraded("the cluster is draining")
            lane = self._scheduler.submit(request)
            generation = self._generations[lane] = RunningGeneration(self, lane)
            self._send()
        return generation

    def cancel(self, lane: int) -> None:
        """Stop `lane`; does nothing if it has ended."""
        with self._lock:
            if self._generations.pop(lane, None) is not None and self._scheduler.cancel(lane):
                self._cancelled += 1
                self._send()

    def counts(self) -> EngineCounts:
        with self._lock:
            now_s = time.monotonic()
            recent = sum(1 for at_s in self._recent if now_s - at_s < RATE_WINDOW_S)
            return EngineCounts(
                self._scheduler.running,
                self._scheduler.waiting,
                self._completed,
                self._failed,
                self._cancelled,
                self._tokens,
                recent / RATE_WINDOW_S,
            )

    async def drain(self, deadline_s: float) -> bool:
        """Refuse new requests, wait for the running ones; True if all ended in time."""
        self._draining = True
        until_s = time.monotonic() + deadline_s
        while self._generations and self._problem is None:
            if time.monotonic() > until_s:
                return False
            await asyncio.sleep(0.02)
        return True

    def close(self) -> None:
        """End what runs with an error and close the streams."""
        self._fail(Degraded("the cluster is being taken down"))
        self._closed.set()
        self._pipeline.close()
        self._watch.join(timeout=2 * WATCH_EVERY_S)

    def _send(self) -> None:
        was_idle = self._scheduler.in_flight == 0
        for step in self._scheduler.next_steps():
            self._pipeline.send(step)
        if was_idle:
            self._progress_s = time.monotonic()

    def _on_result(self, result: shard_pb2.ResultHeader) -> None:
        emitted: Emitted | None = None
        with self._lock:
            if self._problem is not None:
                return
            self._progress_s = time.monotonic()
            emitted = self._scheduler.result(result.lane, result.token_ids[0] if result.token_ids else None)
            if result.failure:
                self._fail_lane(result)
            self._send()
            generation = self._count(emitted) if emitted is not None else None
        if generation is not None and emitted is not None:
            generation.deliver(emitted)

    def _count(self, emitted: Emitted) -> RunningGeneration | None:
        if emitted.token is not None:
            self._tokens += 1
            self._recent.append(self._progress_s)
        if emitted.finish_reason is None:
            return self._generations.get(emitted.lane)
        self._completed += 1
        return self._generations.pop(emitted.lane, None)

    def _fail_lane(self, result: shard_pb2.ResultHeader) -> None:
        """A stage could not compute a step: its request fails, the others go on."""
        self._scheduler.cancel(result.lane)
        generation = self._generations.pop(result.lane, None)
        if generation is not None:
            self._failed += 1
            node = self._pipeline.stages[result.failed_stage].stage.node
            generation.fail(StageLost(result.failure, node=node, stage=result.failed_stage))

    def _on_lost(self, error: MlxctlError) -> None:
        with self._lock:
            if self._problem is not None or self._closed.is_set():
                return
            self._problem = error
        log.error("%s", error)
        self._fail(error)

    def _fail(self, error: MlxctlError) -> None:
        with self._lock:
            self._problem = self._problem or error
            generations = list(self._generations.values())
            self._generations.clear()
            self._scheduler.cancel_all()
            self._failed += len(generations)
        for generation in generations:
            generation.fail(error)

    def _watch_progress(self) -> None:
        """A stopped process keeps its connections; only missing results tell."""
        while not self._closed.wait(WATCH_EVERY_S):
            with self._lock:
                silent_s = time.monotonic() - self._progress_s if self._scheduler.in_flight else 0.0
            if silent_s > STEP_DEADLINE_S:
                self._on_lost(TimedOut(f"no stage answered for {silent_s:.0f} s", hint="mlxctl status, mlxctl logs"))
                return
