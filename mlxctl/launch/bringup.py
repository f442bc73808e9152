"""The phases that turn reached nodes into loaded workers: plan, spawn, certify, send, load. Run by the daemon.

PHASES is all of a launch, in order, the first ones of launch/reach.py included.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from mlxctl.errors import LaunchError, StageLost
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.events import PhaseEvent, Report
from mlxctl.launch.launch import Launch, Machine
from mlxctl.launch.log_files import NodeLog
from mlxctl.launch.phases import FirstError, Phase, Step
from mlxctl.launch.reach import Connect, Inspect, Install, ReadModel
from mlxctl.launch.stages import Deployment, Leases, StageConnection
from mlxctl.launch.weights import Distribution, Place
from mlxctl.launch.worker_process import LocalProcess, NodeProcess, Process, WorkerProcess
from mlxctl.paths import logs_dir
from mlxctl.plan import Stage, make_plan
from mlxctl.rpc import shard_pb2
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.service import COORDINATOR_NAME, stage_name

log = logging.getLogger(__name__)

PORT_TRIES = 100  # from a grpc_port that nobody asked for


class MakePlan:
    """Which node runs which layers."""

    title = "Plan"

    def steps(self, launch: Launch) -> Iterator[Step]:
        yield None, f"split {launch.profile.model} over {len(launch.profile.nodes)} nodes"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.model is not None
        launch.plan = make_plan(launch.profile, launch.nodes, launch.model)
        for stage in launch.plan.stages:
            layers = f"layers {stage.start} to {stage.stop - 1}"
            report(PhaseEvent(self.title, "done", node=stage.node, detail=layers))
        for unused in launch.plan.unused:
            report(PhaseEvent(self.title, "done", node=unused.node, detail=f"no layers: {unused.reason}"))

    async def undo(self, launch: Launch) -> None:
        """Nothing was changed."""


class Spawn:
    """One worker process per stage; what runs on other machines is covered by their claims."""

    title = "Start workers"

    def steps(self, launch: Launch) -> Iterator[Step]:
        for node in launch.profile.nodes:
            where = f"at {node.data_address or node.host}, from port {launch.profile.grpc_port}"
            yield node.name, f"a worker {where}, if layers are left for it"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.plan is not None
        async with FirstError() as group:
            for stage in launch.plan.stages:
                group.create_task(self._start(launch, stage, report))
        order = [stage.node for stage in launch.plan.stages]
        launch.workers.sort(key=lambda worker: order.index(worker.node))
        for machine in launch.machines:
            await self._cover(launch, machine)

    async def undo(self, launch: Launch) -> None:
        await asyncio.gather(*(self._end(launch, worker) for worker in launch.workers))

    async def _start(self, launch: Launch, stage: Stage, report: Report) -> None:
        assert launch.plan is not None
        node = launch.node(stage.node)
        asked_for = "grpc_port" in launch.profile.model_fields_set
        port = 0 if launch.any_port else launch.profile.grpc_port + stage.index
        tries = 1 if launch.any_port or asked_for else PORT_TRIES
        name = stage_name(launch.deployment_id, stage.index)
        arguments = ["worker", "--name", name, "--host", launch.address(node)]
        arguments += ["--port", str(port), "--port-tries", str(tries)]
        machine = launch.machine(node.name)
        process: Process
        if machine is None:
            if (store := launch.separate_stores.get(node.name)) is not None:
                arguments += ["--store", str(store), "--store-only"]
            nodes = [each.node for each in launch.plan.stages]
            process = await LocalProcess.start(arguments, launch.gpu_environment(node.name, nodes))
        else:
            assert machine.remote is not None and machine.installed is not None
            process = await NodeProcess.start(machine.remote, machine.installed, arguments)
        node_log = NodeLog(logs_dir(launch.name) / f"{node.name}.log")
        launch.workers.append(WorkerProcess(node.name, process, node_log))
        report(PhaseEvent(self.title, "done", node=node.name, detail=f"pid {process.id.pid}"))

    async def _cover(self, launch: Launch, machine: Machine) -> None:
        assert machine.claim is not None and launch.plan is not None
        names = {node.name for node in machine.nodes}
        processes = [worker.id for worker in launch.workers if worker.node in names]
        stages = [stage for stage in launch.plan.stages if stage.node in names]
        await machine.claim.cover(processes, sum(stage.weight_bytes + stage.kv_bytes for stage in stages))

    async def _end(self, launch: Launch, worker: WorkerProcess) -> None:
        """A node that cannot be reached ends its workers itself."""
        try:
            await worker.end()
        except LaunchError as error:
            log.warning("%s; its worker ends when its lease does", error)
            launch.unreached.add(worker.node)
            machine = launch.machine(worker.node)
            if machine is not None and machine.remote is not None:
                machine.remote.abort()


class Certify:
    """Each worker has a certificate for the key that it made, and listens."""

    title = "Certificates"

    def steps(self, launch: Launch) -> Iterator[Step]:
        for node in launch.profile.nodes:
            yield node.name, "sign the key that its worker makes in memory"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.plan is not None
        async with FirstError() as group:
            for stage, worker in zip(launch.plan.stages, launch.workers, strict=True):
                group.create_task(self._certify(launch, worker, stage, report))

    async def undo(self, launch: Launch) -> None:
        """They die with the workers and the authority."""

    async def _certify(self, launch: Launch, worker: WorkerProcess, stage: Stage, report: Report) -> None:
        try:
            name = stage_name(launch.deployment_id, stage.index)
            await worker.certify(launch.authority, name, launch.address(launch.node(stage.node)))
        except TimeoutError as error:
            raise LaunchError("the worker did not answer in time", node=worker.node, stage=stage.index) from error
        report(PhaseEvent(self.title, "done", node=worker.node, detail=f"listens at {worker.address}"))


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

    def steps(self, launch: Launch) -> Iterator[Step]:
        for node in launch.profile.nodes:
            yield node.name, "send the weights of its layers, unless they are there"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.plan is not None and launch.model is not None
        identity = _coordinator_identity(launch.authority)
        profile = launch.profile
        deployment = Deployment(
            launch.deployment_id,
            1,
            launch.model.path,
            len(launch.plan.stages),
            profile.kv_bits or 0,
            profile.kv_group_size,
        )
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
        if not any(place.key for place in launch.distribution.places):
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

    def steps(self, launch: Launch) -> Iterator[Step]:
        for node in launch.profile.nodes:
            yield node.name, "load its layers and run them once"

    async def run(self, launch: Launch, report: Report) -> None:
        assert launch.watch is not None
        await launch.watch.until_done(self._load_all(launch, report))

    async def undo(self, launch: Launch) -> None:
        """Workers that have loaded are stopped as all others are."""

    async def _load_all(self, launch: Launch, report: Report) -> None:
        assert launch.distribution is not None
        loop = asyncio.get_running_loop()
        async with FirstError() as group:
            for connection, place in zip(launch.connections, launch.distribution.places, strict=True):
                load = asyncio.to_thread(self._load, connection, place, report, loop)
                group.create_task(load)

    def _load(self, connection: StageConnection, place: Place, report: Report, loop: asyncio.AbstractEventLoop) -> None:
        node = connection.stage.node

        def on_progress(progress: shard_pb2.LoadProgress) -> None:
            share = progress.bytes_done / max(progress.bytes_total, 1)
            detail = "warm" if progress.ready else f"{progress.layers_done} of {progress.layers_total} layers"
            event = PhaseEvent(self.title, "done" if progress.ready else "running", node, detail, share)
            loop.call_soon_threadsafe(report, event)

        connection.load(on_progress, place.key, place.folder)


PHASES: tuple[Phase[Launch], ...] = (
    ReadModel(),
    Connect(),
    Install(),
    Inspect(),
    MakePlan(),
    Spawn(),
    Certify(),
    Weights(),
    Load(),
)


def _coordinator_identity(authority: CertificateAuthority) -> Identity:
    key = PrivateKey(COORDINATOR_NAME)
    return key.identity(authority.sign(key.request_pem, COORDINATOR_NAME), authority.certificate_pem)
