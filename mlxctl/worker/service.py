"""What a worker answers over gRPC. Its threads only carry bytes and answers; computing is the runner's."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import mlx.core as mx
import psutil

from mlxctl.errors import MlxctlError
from mlxctl.rpc import shard_pb2
from mlxctl.sharding import LoadProgress
from mlxctl.wire.identity import Identity, peer_name
from mlxctl.wire.service import COORDINATOR_NAME, ShardServicer, abort, rpc_error, stage_name
from mlxctl.worker import held
from mlxctl.worker.broken_edges import BrokenEdges
from mlxctl.worker.edge import Edge, Outbox, StepClock
from mlxctl.worker.fetch import fetch_piece
from mlxctl.worker.gate import Gate
from mlxctl.worker.mlx_thread import MlxThread
from mlxctl.worker.receive import receive_piece
from mlxctl.worker.runner import Runner
from mlxctl.worker.weights import NodeWeights

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
CUT_OFF = "what came in ended before its time"


class WorkerService(ShardServicer):
    """One worker: at most one shard, one edge in, one edge out."""

    def __init__(
        self,
        identity: Identity,
        prolong: Callable[[float], None],
        stop: Callable[[], None],
        weights: NodeWeights,
    ) -> None:
        self._identity = identity
        self._weights = weights
        self._prolong = prolong
        self._stop = stop
        self._mlx = MlxThread()
        self._ahead = MlxThread("ahead") if held.is_possible() else None
        self._runner: Runner | None = None
        self._outbox: Outbox | None = None
        self._edge: Edge | None = None
        self._broken = BrokenEdges()
        self._clock = StepClock()
        self._loaded_s = 0.0
        self._failure = ""
        self._serving = threading.Lock()

    def load(self, request: shard_pb2.LoadRequest, context: grpc.ServicerContext) -> Iterator[shard_pb2.LoadProgress]:
        self._only(context, COORDINATOR_NAME)
        updates: queue.SimpleQueue[LoadProgress | None] = queue.SimpleQueue()
        clock = StepClock()
        outbox = Outbox(request.epoch, clock)
        try:
            folder, tensors = self._weights.find(request)
        except MlxctlError as error:
            log.error("loading failed: %s", error)
            abort(context, error)
        future = self._mlx.submit(lambda: Runner.load(request, folder, tensors, outbox, updates.put, self._ahead))
        future.add_done_callback(lambda _: updates.put(None))
        progress = shard_pb2.LoadProgress()
        while (update := updates.get()) is not None:
            progress = shard_pb2.LoadProgress(
                layers_done=update.layers_done,
                layers_total=update.layers_total,
                bytes_done=update.bytes_done,
                bytes_total=update.bytes_total,
            )
            yield progress
        try:
            runner = future.result()
        except MlxctlError as error:
            log.error("loading failed: %s", error)
            abort(context, error)
        if self._edge is not None:
            self._edge.close()
        self._runner, self._outbox, self._loaded_s = runner, outbox, time.monotonic()
        self._failure, self._broken, self._clock, self._edge = "", BrokenEdges(), clock, None
        cache = runner.shard.cache_facts
        progress.ready, progress.batchable = True, cache.batchable
        if cache.trim_limit is not None:
            progress.trim_limit = cache.trim_limit
        yield progress

    def connect(self, request: shard_pb2.ConnectRequest, context: grpc.ServicerContext) -> shard_pb2.ConnectReply:
        self._only(context, COORDINATOR_NAME)
        runner = self._only_loaded(context, request.deployment, request.epoch)
        assert self._outbox is not None
        if self._edge is not None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this stage has its edge already: load it again first")
        way, broken = (runner.stage, 0 if request.feed else runner.stage + 1), self._broken
        broken.forget(*way)
        self._edge = Edge(
            request.address,
            request.server_name,
            self._identity,
            self._outbox,
            request.deployment,
            feed=request.feed,
            on_broken=lambda reason: broken.note(*way, reason),
        )
        try:
            self._edge.wait_until_open(CONNECT_TIMEOUT_S)
        except grpc.FutureTimeoutError:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"no answer from {request.address} in {CONNECT_TIMEOUT_S:g} s")
        except grpc.RpcError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{request.address} refused the edge: {rpc_error(error)}")
        return shard_pb2.ConnectReply()

    def forward(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        deployment = dict(context.invocation_metadata()).get("deployment", "")
        runner = self._only_loaded(context, deployment, None)
        before = stage_name(deployment, runner.stage - 1) if runner.stage else COORDINATOR_NAME
        self._only(context, before)
        if not self._serving.acquire(blocking=False):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "the edge into this stage is open already")
        broken = self._broken
        broken.forget(runner.stage - 1, runner.stage)
        context.send_initial_metadata(())
        try:
            self._serve(runner, parts)
        except grpc.RpcError:
            log.info("the edge into this stage was closed")
            if runner.stage:  # the coordinator knows how its own ended
                broken.note(runner.stage - 1, runner.stage, CUT_OFF)
        except MlxctlError as error:
            self._failure = str(error)
            log.error("the edge into this stage carried a bad frame: %s", error)
            abort(context, error)
        finally:
            self._serving.release()
        yield from ()

    def _serve(self, runner: Runner, parts: Iterator[bytes]) -> None:
        """Have the frames of `parts` computed, to their end; raises what is wrong with them."""
        gate = runner.gate = Gate(runner.lanes, is_fed=runner.is_fed)
        served = self._mlx.submit(lambda: runner.serve(gate))
        try:
            for arrival in runner.arrivals(parts):
                gate.put(arrival)
        finally:
            gate.put(None)
            served.result()

    def feed(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        deployment = dict(context.invocation_metadata()).get("deployment", "")
        runner = self._only_loaded(context, deployment, None)
        self._only(context, stage_name(deployment, runner.stages - 1))
        if not runner.is_fed:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "only the first of several stages is fed")
        last, broken = runner.stages - 1, self._broken
        broken.forget(last, 0)
        context.send_initial_metadata(())
        try:
            for result in runner.results(parts):
                if runner.gate is not None:
                    runner.gate.put(result)
        except grpc.RpcError:
            log.info("the edge from the last stage was closed")
            broken.note(last, 0, CUT_OFF)
        except MlxctlError as error:
            self._failure = str(error)
            log.error("the edge from the last stage carried a bad frame: %s", error)
            abort(context, error)
        yield from ()

    def results(self, request: shard_pb2.ResultsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._only(context, COORDINATOR_NAME)
        runner = self._only_loaded(context, request.deployment, request.epoch)
        if not runner.shard.is_last:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "only the last stage has results")
        assert self._outbox is not None
        context.add_callback(self._outbox.close)
        context.send_initial_metadata(())
        yield from self._outbox.parts() if runner.shard.is_first else self._outbox.result_parts()

    def status(self, request: shard_pb2.StatusRequest, context: grpc.ServicerContext) -> shard_pb2.StatusReply:
        runner = self._runner
        reply = shard_pb2.StatusReply(
            active_bytes=mx.get_active_memory(),
            peak_bytes=mx.get_peak_memory(),
            rss_bytes=psutil.Process().memory_info().rss,
            steps=self._clock.steps,
            profile=self._clock.message(),
            failure=self._failure,
        )
        if runner is not None:
            reply.deployment, reply.epoch = runner.deployment, runner.epoch
            reply.start, reply.stop, reply.ready = runner.shard.start, runner.shard.stop, True
            reply.cache_bytes, reply.lanes = runner.lanes.nbytes, len(runner.lanes)
            reply.up_s = time.monotonic() - self._loaded_s
        return reply

    def store(self, request: shard_pb2.StoreRequest, context: grpc.ServicerContext) -> shard_pb2.StoreReply:
        self._only(context, COORDINATOR_NAME)
        try:
            return self._weights.describe(request)
        except MlxctlError as error:
            abort(context, error)
            raise

    def put(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[shard_pb2.PutReply]:
        self._only(context, COORDINATOR_NAME)
        try:
            yield from receive_piece(self._weights.store, parts, context.is_active)
        except grpc.RpcError:
            log.info("a transfer was cut off; what came is kept")
        except MlxctlError as error:
            log.error("a piece of a model was refused: %s", error)
            abort(context, error)

    def fetch(self, request: shard_pb2.FetchRequest, context: grpc.ServicerContext) -> Iterator[shard_pb2.PutReply]:
        self._only(context, COORDINATOR_NAME)
        try:
            yield from fetch_piece(self._weights.store, request, context.is_active)
        except MlxctlError as error:
            log.error("a piece of a model did not come from the hub: %s", error)
            abort(context, error)

    def lease(self, request: shard_pb2.LeaseRequest, context: grpc.ServicerContext) -> shard_pb2.LeaseReply:
        self._only(context, COORDINATOR_NAME)
        self._prolong(request.duration_s)
        return shard_pb2.LeaseReply(failure=self._failure, broken_edges=self._broken.messages())

    def stop(self, request: shard_pb2.StopRequest, context: grpc.ServicerContext) -> shard_pb2.StopReply:
        self._only(context, COORDINATOR_NAME)
        self._stop()
        return shard_pb2.StopReply()

    def _only(self, context: grpc.ServicerContext, name: str) -> None:
        if peer_name(context) != name:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"this call is for {name} alone")

    def _only_loaded(self, context: grpc.ServicerContext, deployment: str, epoch: int | None) -> Runner:
        runner = self._runner
        if runner is None or runner.deployment != deployment or epoch not in (None, runner.epoch):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{deployment} is not loaded here")
        assert runner is not None
        return runner
