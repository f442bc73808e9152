"""The engine: requests in, tokens out. Joins the scheduler's decisions to the pipeline's streams. Used by the API.

Whoever brings an event (a client's request, a result from the last stage) advances the scheduler under the lock and
sends what it says; no thread of the engine's own stands in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mlxctl.coordinator.latency import Latencies
from mlxctl.coordinator.limits import Limits
from mlxctl.coordinator.pipeline import Pipeline
from mlxctl.coordinator.scheduler import Emitted, Scheduler
from mlxctl.coordinator.step_log import StepLog
from mlxctl.errors import ContextLengthExceeded, Degraded, MlxctlError, StageLost, TimedOut
from mlxctl.launch.stages import Leases, StageConnection
from mlxctl.request import FinishReason, GenerationRequest, TokenLogprob
from mlxctl.rpc import shard_pb2
from mlxctl.wire.sampling import decode_logprobs

if TYPE_CHECKING:
    from mlxctl.launch.launch import Launch

log = logging.getLogger(__name__)

STEP_DEADLINE_S = 120.0  # without any result while frames are out
WATCH_EVERY_S = 1.0
RATE_WINDOW_S = 10.0


class RunningGeneration:
    """The asyncio side of one session: tokens arrive from the results thread, the client's task takes them."""

    def __init__(self, engine: PipelineEngine, id: int, timeout_s: float | None) -> None:
        self.loop = asyncio.get_running_loop()
        self._engine = engine
        self._id = id
        self._arrived = asyncio.Event()
        self._emitted: list[Emitted] = []
        self._logprobs: list[TokenLogprob] = []
        self._error: MlxctlError | None = None
        self._finish_reason: FinishReason | None = None
        self._cached = 0
        self._began_s = self._last_s = time.monotonic()
        self._timer = None if timeout_s is None else self.loop.call_later(timeout_s, self._time_out, timeout_s)

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._finish_reason

    @property
    def logprobs(self) -> Sequence[TokenLogprob]:
        return self._logprobs

    @property
    def cached_tokens(self) -> int:
        return self._cached

    def cancel(self) -> None:
        self._stop_timer()
        self._engine.cancel(self._id)

    async def __aiter__(self) -> AsyncIterator[list[int]]:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            emitted, self._emitted = self._emitted, []
            tokens = self._take(emitted)
            if tokens:
                yield tokens
            if self._emitted:
                continue
            if self._error is not None:
                raise self._error
            if self._finish_reason is not None:
                return

    def deliver(self, emitted: Emitted) -> None:
        """Called on the loop."""
        self._emitted.append(emitted)
        self._arrived.set()

    def fail(self, error: MlxctlError) -> None:
        """Called on the loop."""
        self._stop_timer()
        self._error = error
        self._arrived.set()

    def observe(self, latencies: Latencies, now_s: float) -> None:
        """A token has come. Called on the results thread."""
        if self._last_s == self._began_s:
            latencies.observe_ttft(now_s - self._began_s)
        else:
            latencies.observe_gap(now_s - self._last_s)
        self._last_s = now_s

    def _take(self, emitted: list[Emitted]) -> list[int]:
        for each in emitted:
            self._cached = each.cached
            if each.logprob is not None:
                self._logprobs.append(each.logprob)
            if each.finish_reason is not None:
                self._finish_reason = each.finish_reason
                self._stop_timer()
        return [each.token for each in emitted if each.token is not None]

    def _time_out(self, timeout_s: float) -> None:
        self._engine.expire(self._id)
        self.fail(
            TimedOut(f"the request was not done in its {timeout_s:g} s", hint="ask for fewer tokens or more time")
        )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any) -> None:
    """Run `function(argument)` on `loop`, unless that has closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, argument)


def _deliver(news: Sequence[tuple[RunningGeneration, Emitted]]) -> None:
    for generation, emitted in news:
        generation.deliver(emitted)


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


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """Which sequences are decoded together, and what is kept of finished ones (in sequences and tokens)."""

    batchable: bool
    rows: tuple[int, ...]
    prefilling: int
    kept_sequences: int
    kept_tokens: int
    cache_tokens: int


class PipelineEngine:
    """Serves GenerationRequests on a loaded pipeline until a stage is lost or it is closed."""

    def __init__(
        self,
        stages: Sequence[StageConnection],
        leases: Leases,
        *,
        context: int,
        concurrency: int,
        queue_limit: int,
        chunk_tokens: int,
    ) -> None:
        self.context = context
        self.latencies = Latencies()
        self.steps = StepLog()
        self._lock = threading.RLock()
        self._scheduler = Scheduler(
            Limits(
                len(stages),
                context,
                concurrency,
                queue_limit,
                batchable=all(stage.batchable for stage in stages),
                trim_limit=min(stage.trim_limit for stage in stages),
                chunk_tokens=chunk_tokens,
            )
        )
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

    @classmethod
    def of(cls, launch: Launch, *, queue_limit: int, chunk_tokens: int | None = None) -> PipelineEngine:
        """The engine of a launch whose phases have run, as its plan says; blocks. Raises LaunchError."""
        assert launch.plan is not None and launch.leases is not None
        plan = launch.plan
        return cls(
            launch.connections,
            launch.leases,
            context=plan.context,
            concurrency=plan.concurrency,
            queue_limit=queue_limit,
            chunk_tokens=chunk_tokens or plan.chunk_tokens,
        )

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
            id = self._scheduler.submit(request)
            generation = self._generations[id] = RunningGeneration(self, id, request.timeout_s)
            self._send()
        return generation

    def cancel(self, id: int) -> None:
        """Stop session `id`; does nothing if it has ended."""
        with self._lock:
            self._cancelled += self._forget(id)

    def expire(self, id: int) -> None:
        """Stop session `id`, whose time is over; it counts as failed."""
        with self._lock:
            self._failed += self._forget(id)

    def _forget(self, id: int) -> bool:
        """Free what session `id` has on every stage; False if it has ended."""
        ended = self._generations.pop(id, None) is not None and self._scheduler.cancel(id)
        if ended:
            self._send()
        return ended

    def relieve(self, surplus_share: float) -> None:
        """Free kept caches: the stages hold `surplus_share` more than was planned for."""
        with self._lock:
            self._scheduler.forget_prefixes(surplus_share)

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

    def lanes(self) -> LaneCounts:
        with self._lock:
            held = sum(len(held.tokens) for held in self._scheduler.prefixes)
            return LaneCounts(
                self._scheduler.limits.batchable,
                self._scheduler.lane_rows,
                self._scheduler.prefilling,
                len(self._scheduler.prefixes),
                held,
                self._scheduler.limits.cache_tokens,
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
            if step.rows:
                self.steps.sent(step.lane, step.step, len(step.rows), step.columns)
            self._pipeline.send(step)
        if was_idle:
            self._progress_s = time.monotonic()

    def _on_result(self, result: shard_pb2.ResultHeader) -> None:
        with self._lock:
            if self._problem is not None:
                return
            self._progress_s = time.monotonic()
            if result.failure:
                self._fail_step(result)
                emitted = []
            else:
                emitted = self._take(result)
            self._send()
            news = [(generation, each) for each in emitted if (generation := self._count(each)) is not None]
        for loop, group in groupby(news, key=lambda item: item[0].loop):
            _call(loop, _deliver, list(group))

    def _take(self, result: shard_pb2.ResultHeader) -> list[Emitted]:
        stage_s = [max(time.compute_us, time.receive_us) / 1e6 for time in result.times]
        self.steps.came_back(result.lane, result.step, result.times)
        tokens = list(result.token_ids)
        logprobs = decode_logprobs(result.logprobs, tokens)
        return self._scheduler.result(result.lane, result.step, tokens, stage_s, logprobs)

    def _count(self, emitted: Emitted) -> RunningGeneration | None:
        if emitted.token is not None:
            self._tokens += 1
            self._recent.append(self._progress_s)
        if emitted.finish_reason is None:
            generation = self._generations.get(emitted.id)
        else:
            self._completed += 1
            generation = self._generations.pop(emitted.id, None)
        if generation is not None and emitted.token is not None:
            generation.observe(self.latencies, self._progress_s)
        return generation

    def _fail_step(self, result: shard_pb2.ResultHeader) -> None:
        """A stage could not compute a step: its requests fail, the others go on."""
        node = self._pipeline.stages[result.failed_stage].stage.node
        for id in self._scheduler.failed(result.lane, result.step):
            generation = self._generations.pop(id, None)
            if generation is not None:
                self._failed += 1
                error = StageLost(result.failure, node=node, stage=result.failed_stage)
                _call(generation.loop, generation.fail, error)

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
            self._scheduler.clear()
            self._failed += len(generations)
        for generation in generations:
            _call(generation.loop, generation.fail, error)

    def _watch_progress(self) -> None:
        """A stopped process keeps its connections; only missing results tell."""
        while not self._closed.wait(WATCH_EVERY_S):
            with self._lock:
                silent_s = time.monotonic() - self._progress_s if self._scheduler.in_flight else 0.0
            if silent_s > STEP_DEADLINE_S:
                self._on_lost(TimedOut(f"no stage answered for {silent_s:.0f} s", hint="mlxctl status, mlxctl logs"))
                return
