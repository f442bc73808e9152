"""Calls to the workers of one pipeline: load, connect, status, lease, stop. Used by launch phases and engine."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from mlxctl.checkpoint import HubCommit
from mlxctl.errors import LaunchError, MlxctlError, StageLost
from mlxctl.plan import Stage
from mlxctl.rpc import shard_pb2
from mlxctl.wire.identity import Identity
from mlxctl.wire.service import ShardStub, channel, rpc_error, stage_name

CALL_TIMEOUT_S = 10.0
STORE_TIMEOUT_S = 60.0
LEASE_S = 10.0
LEASE_EVERY_S = 2.0
LEASE_TIMEOUT_S = LEASE_S - LEASE_EVERY_S  # as long as the worker lives anyway: a machine may stall for some seconds

Lost = TypeVar("Lost", bound=MlxctlError)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one set of stages: what every frame, certificate name and call carries."""

    id: str
    epoch: int
    model_path: str
    stages: int = 1
    kv_bits: int = 0  # of quantized KV caches; 0: as the model makes them
    kv_group_size: int = 64


class StageConnection:
    """The coordinator's way to the worker of one stage at `address` (host:port): `stub` for calls that must not wait,
    `bulk` for weights, which would keep a lease waiting for 9 s on a link of 500 kbit/s.

    Once loaded: whether its sequences can share a lane, and up to how many tokens its caches can be trimmed.
    """

    def __init__(self, deployment: Deployment, stage: Stage, address: str, identity: Identity) -> None:
        self.deployment = deployment
        self.stage = stage
        self.address = address
        self.server_name = stage_name(deployment.id, stage.index)
        self.channel = channel(address, self.server_name, identity)
        self.stub = ShardStub(self.channel)
        self._bulk_channel = channel(address, self.server_name, identity, apart=True)
        self.bulk = ShardStub(self._bulk_channel)
        self.batchable = True
        self.trim_limit = math.inf

    def load(self, on_progress: Callable[[shard_pb2.LoadProgress], None], weights: str = "", folder: str = "") -> None:
        """Have the worker load its layers and warm up; blocks. `folder` is where the node has the model's files, else
        `weights` the key of the model in its store; with both, the folder has those that it needs, the store the
        model's manifest. Raises LaunchError naming node and stage.
        """
        request = shard_pb2.LoadRequest(
            deployment=self.deployment.id,
            epoch=self.deployment.epoch,
            model_path=self.deployment.model_path,
            start=self.stage.start,
            stop=self.stage.stop,
            stage=self.stage.index,
            stages=self.deployment.stages,
            memory_limit_bytes=self.stage.budget_bytes,
            weights=weights,
            kv_bits=self.deployment.kv_bits,
            kv_group_size=self.deployment.kv_group_size,
            folder=folder,
        )
        try:
            for progress in self.stub.load(request, wait_for_ready=True):
                on_progress(progress)
                if progress.ready:
                    self.batchable = progress.batchable
                    self.trim_limit = progress.trim_limit if progress.HasField("trim_limit") else math.inf
        except grpc.RpcError as error:
            raise self.launch_error("loading failed", error) from error

    def store(self, files: Mapping[str, int], weights: str, commit: HubCommit | None = None) -> shard_pb2.StoreReply:
        """What the node has of the model, of which it needs `files` (sizes). Raises LaunchError."""
        request = shard_pb2.StoreRequest(model_path=self.deployment.model_path, files=files, weights=weights)
        if commit is not None:
            request.repo, request.commit = commit.repo, commit.commit
        try:
            reply: shard_pb2.StoreReply = self.stub.store(request, wait_for_ready=True, timeout=STORE_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self.launch_error("cannot tell which weights it has", error) from error
        return reply

    def connect(self, successor: StageConnection, *, feed: bool = False) -> None:
        """Have the worker dial `successor`, or as the last stage `feed` the first one. Raises LaunchError."""
        request = shard_pb2.ConnectRequest(
            deployment=self.deployment.id,
            epoch=self.deployment.epoch,
            address=successor.address,
            server_name=successor.server_name,
            feed=feed,
        )
        try:
            self.stub.connect(request, timeout=CALL_TIMEOUT_S * 2)
        except grpc.RpcError as error:
            raise self.launch_error(f"cannot reach stage {successor.stage.index}", error) from error

    def status(self) -> shard_pb2.StatusReply:
        """Raises StageLost if the worker does not answer in time."""
        try:
            reply: shard_pb2.StatusReply = self.stub.status(shard_pb2.StatusRequest(), timeout=LEASE_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self.unreachable(error) from error
        return reply

    def prolong(self) -> shard_pb2.LeaseReply:
        """Renew the worker's lease; what ails it. Raises StageLost if it does not answer in time."""
        request = shard_pb2.LeaseRequest(duration_s=LEASE_S)
        try:
            reply: shard_pb2.LeaseReply = self.stub.lease(request, timeout=LEASE_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self.unreachable(error) from error
        return reply

    def stop(self) -> None:
        """Ask the worker to end; one that cannot be asked is the launcher's to kill."""
        try:
            self.stub.stop(shard_pb2.StopRequest(), timeout=1.0)
        except grpc.RpcError:
            return

    def unreachable(self, error: grpc.RpcError) -> StageLost:
        """The error for a call that failed, in words rather than in gRPC's."""
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return self.lost(f"the worker is gone: nothing answers at {self.address}")
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return self.lost(f"the worker hangs: no answer in {LEASE_TIMEOUT_S:g} s")
        return self.lost(f"the worker does not answer: {rpc_error(error)}")

    def lost(self, message: str) -> StageLost:
        """The error that names this stage."""
        return StageLost(
            message,
            hint=f"mlxctl logs --node {self.stage.node}",
            node=self.stage.node,
            stage=self.stage.index,
        )

    def close(self) -> None:
        self.channel.close()
        self._bulk_channel.close()

    def launch_error(self, what: str, error: grpc.RpcError) -> MlxctlError:
        """What a call that failed comes to, naming node and stage."""
        why = error.details() if error.code() == grpc.StatusCode.INTERNAL else rpc_error(error)
        return LaunchError(f"{what}: {why}", node=self.stage.node, stage=self.stage.index)


def culprit(connections: Sequence[StageConnection], error: Lost) -> Lost | StageLost:
    """What to say of a pipeline in which `error` was seen, as what breaks shows at its ends first. Blocks.

    A stage that does not answer, else one that says why it cannot compute, else an edge between two that both answer,
    else `error`.
    """
    replies = []
    for connection in connections:
        try:
            replies.append((connection, connection.prolong()))
        except StageLost as lost:
            return lost
    return next(_ailments(connections, replies), error)


def _ailments(
    connections: Sequence[StageConnection], replies: Sequence[tuple[StageConnection, shard_pb2.LeaseReply]]
) -> Iterator[StageLost]:
    """What some stages said that ails them, the worst first."""
    for connection, reply in replies:
        if reply.failure:
            yield connection.lost(reply.failure)
    for _, reply in replies:
        for edge in reply.broken_edges:
            yield _edge_lost(connections[edge.sender], connections[edge.receiver], edge.reason)


def _edge_lost(sender: StageConnection, receiver: StageConnection, reason: str) -> StageLost:
    to = f"stage {receiver.stage.index} on node {receiver.stage.node} ({receiver.address})"
    return StageLost(
        f"its link to {to} broke, though both answer: {reason}",
        hint="mlxctl doctor, which tries every link",
        node=sender.stage.node,
        stage=sender.stage.index,
    )


class Leases:
    """Renews every worker's lease until closed. `on_lost` is told once that a worker does not answer or what one says
    that ails it, through `culprit`.
    """

    def __init__(self, connections: Sequence[StageConnection], on_lost: Callable[[StageLost], None]) -> None:
        self.on_lost = on_lost
        self._connections = tuple(connections)
        self._told = threading.Event()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._renew, args=(c,), name=f"lease-{c.stage.index}", daemon=True)
            for c in connections
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=LEASE_TIMEOUT_S + 1)

    def _renew(self, connection: StageConnection) -> None:
        while True:
            try:
                reply = connection.prolong()
            except StageLost as error:
                self._tell(error)
                return
            ailment = next(_ailments(self._connections, [(connection, reply)]), None)
            if ailment is not None and not self._told.is_set():
                self._tell(culprit(self._connections, ailment))
            if self._closed.wait(LEASE_EVERY_S):
                return

    def _tell(self, error: StageLost) -> None:
        if not self._closed.is_set() and not self._told.is_set():
            self._told.set()
            self.on_lost(error)
