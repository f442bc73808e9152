"""The phases that turn a profile into loaded workers: inspect, plan, spawn, load. Run by the coordinator's daemon."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlxctl.checkpoint import read_model_facts
from mlxctl.errors import LaunchError, StageLost
from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.events import PhaseEvent, Report
from mlxctl.launch.log_files import NodeLog
from mlxctl.launch.phases import Phase
from mlxctl.launch.probe import probe_local
from mlxctl.launch.stages import Deployment, Leases, StageConnection
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
    """What the phases find and make, in the order in which they do. `any_port`: a private cluster takes free ports."""

    profile: Profile
    name: str
    any_port: bool
    nodes: tuple[NodeFacts, ...] = ()
    model: ModelFacts | None = None
    plan: Plan | None = None
    authority: CertificateAuthority = field(default_factory=CertificateAuthority)
    workers: list[WorkerProcess] = field(default_factory=list)
    connections: list[StageConnection] = field(default_factory=list)
    leases: Leases | None = None
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
            worker = await WorkerProcess.start(stage.node, name, hosts[stage.node], port, tries, log)
            launch.workers.append(worker)
        report(PhaseEvent(self.title, "running", detail=f"{len(launch.workers)} processes"))
        async with _FirstError() as group:
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


class Load:
    """Each worker holds its layers and has run them once."""

    title = "Load"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.plan is not None and launch.model is not None
        identity = _coordinator_identity(launch.authority)
        deployment = Deployment(launch.deployment_id, 1, launch.model.path, launch.model.hash)
        launch.connections = [
            StageConnection(deployment, stage, worker.address, identity)
            for stage, worker in zip(launch.plan.stages, launch.workers, strict=True)
        ]
        loop, lost = asyncio.get_running_loop(), asyncio.Event()
        silent: list[StageLost] = []

        def on_lost(error: StageLost) -> None:
            silent.append(error)
            loop.call_soon_threadsafe(lost.set)

        launch.leases = Leases(launch.connections, on_lost)
        async with _FirstError() as group:
            watch = group.create_task(self._watch(lost, silent))
            loads = [
                group.create_task(asyncio.to_thread(self._load, c, len(launch.connections), report, loop))
                for c in launch.connections
            ]
            await asyncio.gather(*loads)
            watch.cancel()

    async def undo(self, launch: Launch) -> None:
        if launch.leases is not None:
            await asyncio.to_thread(launch.leases.close)
        await asyncio.gather(*(asyncio.to_thread(connection.stop) for connection in launch.connections))
        for connection in launch.connections:
            connection.close()

    @staticmethod
    async def _watch(lost: asyncio.Event, silent: Sequence[StageLost]) -> None:
        """A stopped worker keeps its Load call open: the lease tells."""
        await lost.wait()
        raise silent[0]

    def _load(
        self, connection: StageConnection, stage_count: int, report: Report, loop: asyncio.AbstractEventLoop
    ) -> None:
        node = connection.stage.node

        def on_progress(progress: shard_pb2.LoadProgress) -> None:
            share = progress.bytes_done / max(progress.bytes_total, 1)
            detail = "warm" if progress.ready else f"{progress.layers_done} of {progress.layers_total} layers"
            event = PhaseEvent(self.title, "done" if progress.ready else "running", node, detail, share)
            loop.call_soon_threadsafe(report, event)

        connection.load(stage_count, on_progress)


PHASES: tuple[Phase[Launch], ...] = (Inspect(), MakePlan(), Spawn(), Load())


def _coordinator_identity(authority: CertificateAuthority) -> Identity:
    key = PrivateKey(COORDINATOR_NAME)
    return key.identity(authority.sign(key.request_pem, COORDINATOR_NAME), authority.certificate_pem)


class _FirstError(asyncio.TaskGroup):
    """A TaskGroup that raises the first failure itself rather than a group of them."""

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await super().__aexit__(*exc_info)  # type: ignore[arg-type]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
