"""The phases that turn a profile into loaded workers: inspect, plan, spawn, send weights, load. Run by the daemon."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxctl.checkpoint import read_model_facts
from mlxctl.errors import LaunchError, StageLost
from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.events import PhaseEvent, Report
from mlxctl.launch.log_files import NodeLog
from mlxctl.launch.phases import FirstError, Phase
from mlxctl.launch.probe import probe_local
from mlxctl.launch.stages import Deployment, Leases, StageConnection
from mlxctl.launch.weights import Distribution
from mlxctl.launch.worker_process import WorkerProcess
from mlxctl.paths import logs_dir
from mlxctl.plan import Plan, make_plan
from mlxctl.profile import Profile
from mlxctl.rpc import shard_pb2
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.service import COORDINATOR_NAME, stage_name

PORT_TRIES = 100  # from a grpc_port that nobody asked for


@dataclass(slots=True)
class Launch:
    """What the phases find and make, in the order in which they do. `any_port`: a private cluster takes free ports.

    Nodes in `separate_stores` act as other machines although they are processes of this one: each keeps weights in the
    folder given for it and reads no folder of a model. Tests bring up clusters of bare nodes with it.
    """

    profile: Profile
    name: str
    any_port: bool
    separate_stores: Mapping[str, Path] = field(default_factory=dict)
    nodes: tuple[NodeFacts, ...] = ()
    model: ModelFacts | None = None
    plan: Plan | None = None
    authority: CertificateAuthority = field(default_factory=CertificateAuthority)
    workers: list[WorkerProcess] = field(default_factory=list)
    connections: list[StageConnection] = field(default_factory=list)
    leases: Leases | None = None
    watch: LossWatch | None = None
    distribution: Distribution | None = None
    deployment_id: str = field(default_factory=lambda: secrets.token_hex(4))


class Inspect:
    """Every node can be reached and its memory is known; the model is complete and its layers are counted."""

    title = "Inspect nodes and model"

    async def run(self, launch: Launch, report: Report) -> None:
        for node in launch.profile.nodes:
            if not node.is_local:
                raise LaunchError(
                    f"{node.host} is another machine, and launching over SSH is not supported yet",
                    hint="--local runs every node of the profile as a process on this machine",
                    node=node.name,
                )
        launch.nodes = await asyncio.to_thread(probe_local, launch.profile)
        launch.model = await asyncio.to_thread(read_model_facts, launch.profile.model)
        report(PhaseEvent(self.title, "running", detail=f"{launch.model.name}, {len(launch.model.layers)} layers"))

    async def undo(self, launch: Launch) -> None:
        """Nothing was changed."""


class MakePlan:
    """Which node runs which layers."""

    title = "Plan"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.model is not None
        launch.plan = make_plan(launch.profile, launch.nodes, launch.model)
        for stage in launch.plan.stages:
            layers = f"layers {stage.start} to {stage.stop - 1}"
            report(PhaseEvent(self.title, "done", node=stage.node, detail=layers))

    async def undo(self, launch: Launch) -> None:
        """Nothing was changed."""


class Spawn:
    """One worker process per stage, certified and listening."""

    title = "Start workers"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.plan is not None
        hosts = {node.name: node.data_address or "127.0.0.1" for node in launch.profile.nodes}
        base = launch.profile.grpc_port
        asked_for = "grpc_port" in launch.profile.model_fields_set
        for stage in launch.plan.stages:
            port = 0 if launch.any_port else base + stage.index
            tries = 1 if launch.any_port or asked_for else PORT_TRIES
            name = stage_name(launch.deployment_id, stage.index)
            log = NodeLog(logs_dir(launch.name) / f"{stage.node}.log")
            store = launch.separate_stores.get(stage.node)
            worker = await WorkerProcess.start(
                stage.node, name, hosts[stage.node], port, tries, log, separate_store=store
            )
            launch.workers.append(worker)
        report(PhaseEvent(self.title, "running", detail=f"{len(launch.workers)} processes"))
        async with FirstError() as group:
            for stage, worker in zip(launch.plan.stages, launch.workers, strict=True):
                group.create_task(self._certify(launch, worker, stage.index, hosts[stage.node], report))

    async def undo(self, launch: Launch) -> None:
        await asyncio.gather(*(worker.end() for worker in launch.workers))

    async def _certify(self, launch: Launch, worker: WorkerProcess, stage: int, host: str, report: Report) -> None:
        try:
            await worker.certify(launch.authority, stage_name(launch.deployment_id, stage), host)
        except TimeoutError as error:
            raise LaunchError("the worker did not answer in time", node=worker.node, stage=stage) from error
        report(PhaseEvent(self.title, "done", node=worker.node, detail=f"pid {worker.id.pid}, {worker.address}"))


class LossWatch:
    """Ends what the phases wait for when a worker no longer answers its lease: a stopped one keeps its calls open."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()

    def tell(self, error: StageLost) -> None:
        """A worker is lost. Called from a lease's thread."""
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: StageLost) -> None:
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # marks it as seen: nobody may be waiting any more

    async def until_done(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`. Raises StageLost if a worker is lost first."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._lost.result()
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Weights:
    """Each node has the weights of its layers at hand: it reads the model's folder, or they are sent to it."""

    title = "Weights"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.plan is not None and launch.model is not None
        identity = _coordinator_identity(launch.authority)
        deployment = Deployment(launch.deployment_id, 1, launch.model.path)
        launch.connections = [
            StageConnection(deployment, stage, worker.address, identity)
            for stage, worker in zip(launch.plan.stages, launch.workers, strict=True)
        ]
        launch.watch = LossWatch()
        launch.leases = Leases(launch.connections, launch.watch.tell)
        loop = asyncio.get_running_loop()

        def on_progress(node: str, done: bool, detail: str, share: float | None) -> None:
            event = PhaseEvent(self.title, "done" if done else "running", node, detail, share)
            loop.call_soon_threadsafe(report, event)

        model = launch.model
        launch.distribution = Distribution(launch.connections, Path(model.path), model.name, on_progress)
        await launch.watch.until_done(launch.distribution.run())
        if not any(launch.distribution.keys):
            report(PhaseEvent(self.title, "running", detail="they are here"))

    async def undo(self, launch: Launch) -> None:
        """What was sent stays in the nodes' stores."""
        if launch.distribution is not None:
            launch.distribution.cancel()
        if launch.leases is not None:
            await asyncio.to_thread(launch.leases.close)
        await asyncio.gather(*(asyncio.to_thread(connection.stop) for connection in launch.connections))
        for connection in launch.connections:
            connection.close()


class Load:
    """Each worker holds its layers and has run them once."""

    title = "Load"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.watch is not None
        await launch.watch.until_done(self._load_all(launch, report))

    async def undo(self, launch: Launch) -> None:
        """Workers that have loaded are stopped as all others are."""

    async def _load_all(self, launch: Launch, report: Report) -> None:
        assert launch.distribution is not None
        loop = asyncio.get_running_loop()
        async with FirstError() as group:
            for connection, key in zip(launch.connections, launch.distribution.keys, strict=True):
                load = asyncio.to_thread(self._load, connection, key, report, loop)
                group.create_task(load)

    def _load(self, connection: StageConnection, key: str, report: Report, loop: asyncio.AbstractEventLoop) -> None:
        node = connection.stage.node

        def on_progress(progress: shard_pb2.LoadProgress) -> None:
            share = progress.bytes_done / max(progress.bytes_total, 1)
            detail = "warm" if progress.ready else f"{progress.layers_done} of {progress.layers_total} layers"
            event = PhaseEvent(self.title, "done" if progress.ready else "running", node, detail, share)
            loop.call_soon_threadsafe(report, event)

        connection.load(on_progress, key)


PHASES: tuple[Phase[Launch], ...] = (Inspect(), MakePlan(), Spawn(), Weights(), Load())


def _coordinator_identity(authority: CertificateAuthority) -> Identity:
    key = PrivateKey(COORDINATOR_NAME)
    return key.identity(authority.sign(key.request_pem, COORDINATOR_NAME), authority.certificate_pem)
