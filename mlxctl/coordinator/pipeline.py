"""The open streams of a pipeline: steps in at the first stage, results out at the last. Used by the engine."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import grpc

from mlxctl.coordinator.lanes import Operation
from mlxctl.coordinator.scheduler import Step
from mlxctl.errors import LaunchError, MlxctlError
from mlxctl.launch.stages import CALL_TIMEOUT_S, StageConnection, culprit
from mlxctl.rpc import shard_pb2
from mlxctl.wire.frames import Frame, parse_result
from mlxctl.wire.parts import join, split
from mlxctl.wire.sampling import write_wanted
from mlxctl.wire.service import rpc_error

log = logging.getLogger(__name__)

OnResult = Callable[[shard_pb2.ResultHeader], None]
OnLost = Callable[[MlxctlError], None]


class Pipeline:
    """Frames in at `stages[0]`, results from `stages[-1]`. `on_result` and `on_lost` run on the results thread."""

    def __init__(self, stages: Sequence[StageConnection], on_result: OnResult, on_lost: OnLost) -> None:
        self.stages = tuple(stages)
        self._deployment = stages[0].deployment
        self._on_result = on_result
        self._on_lost = on_lost
        self._frames: queue.SimpleQueue[shard_pb2.FrameHeader | None] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._closed = False
        self._open()

    def send(self, step: Step) -> None:
        """Put `step` on its way; never blocks."""
        self._frames.put(self._header(step))

    def close(self) -> None:
        """Close both streams; no callback runs afterwards."""
        self._closed = True
        self._frames.put(None)
        self._forward.cancel()
        self._results.cancel()
        self._thread.join(timeout=CALL_TIMEOUT_S)

    def _open(self) -> None:
        """Raises LaunchError if an edge cannot be opened."""
        for stage, successor in reversed(list(itertools.pairwise(self.stages))):
            stage.connect(successor)
        first, last = self.stages[0], self.stages[-1]
        if last is not first:
            last.connect(first, feed=True)
        request = shard_pb2.ResultsRequest(deployment=self._deployment.id, epoch=self._deployment.epoch)
        self._results = last.stub.results(request)
        self._forward = first.stub.forward(self._parts(), metadata=(("deployment", self._deployment.id),))
        for call, stage in ((self._results, last), (self._forward, first)):
            try:
                call.initial_metadata()
            except grpc.RpcError as error:
                raise LaunchError(
                    f"refused the stream: {rpc_error(error)}", node=stage.stage.node, stage=stage.stage.index
                ) from error
        self._forward.add_done_callback(self._forward_ended)
        self._thread = threading.Thread(target=self._read_results, name="results", daemon=True)
        self._thread.start()

    def _parts(self) -> Iterator[bytes]:
        while (header := self._frames.get()) is not None:
            yield from split(Frame(header).buffers(), epoch=header.epoch, frame_id=next(self._ids))

    def _read_results(self) -> None:
        try:
            for data in join(self._results, epoch=self._deployment.epoch):
                self._on_result(parse_result(data))
            self._lost(self.stages[-1].lost("the worker closed the stream of results"))
        except grpc.RpcError as error:
            self._lost(self.stages[-1].unreachable(error))
        except MlxctlError as error:
            self._lost(error)

    def _forward_ended(self, call: grpc.Future) -> None:
        if not call.cancelled() and call.exception() is not None:
            self._lost(self.stages[0].unreachable(call.exception()))

    def _lost(self, error: MlxctlError) -> None:
        if not self._closed:
            self._on_lost(culprit(self.stages, error))

    def _header(self, step: Step) -> shard_pb2.FrameHeader:
        header = shard_pb2.FrameHeader(
            deployment=self._deployment.id,
            epoch=self._deployment.epoch,
            lane=step.lane,
            step=step.step,
            operations=[_operation(operation) for operation in step.operations],
            rows=len(step.rows),
            columns=step.columns,
            token_ids=itertools.chain.from_iterable(step.rows),
            drawn=step.is_ahead,
        )
        if step.wanted is not None:
            write_wanted(step.wanted, header)
        return header


def _operation(operation: Operation) -> shard_pb2.CacheOperation:
    return shard_pb2.CacheOperation(
        kind=operation.kind.name,
        handle=operation.handle,
        others=operation.others,
        rows=operation.rows,
        tokens=operation.tokens,
    )
