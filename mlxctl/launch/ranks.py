"""Ranks of a communicator as processes, one per node, here or over SSH: started, certified, joined, given tasks.

Used by `mlxctl bench links`. Nodes are reached, claimed and provisioned as for a cluster; nothing stays on them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from mlxctl import errors
from mlxctl.errors import LaunchError, MlxctlError, RankLost, TimedOut
from mlxctl.launch.events import PhaseEvent, Report
from mlxctl.launch.launch import Launch
from mlxctl.launch.leftovers import clear_leftovers
from mlxctl.launch.log_files import NodeLog
from mlxctl.launch.phases import FirstError, Step, run_phases
from mlxctl.launch.reach import Connect, Inspect, Install
from mlxctl.launch.state import PRIVATE_PREFIX, ClusterLock
from mlxctl.launch.worker_process import LocalProcess, NodeProcess, Process, WorkerProcess
from mlxctl.paths import cluster_dir, logs_dir
from mlxctl.profile import Node, Profile
from mlxctl.wire.service import rank_name

JOIN_S = 60.0
LATE_S = 5.0  # after the ranks' own deadline


class RankProcess(WorkerProcess):
    """A running rank."""

    async def ask(self, order: Mapping[str, Any], timeout_s: float) -> Any:
        """The result of an order. Raises what the rank raised, RankLost, TimedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.write(json.dumps(order).encode() + b"\n")
                answer = await self._answer()
        except TimeoutError:
            raise TimedOut("its rank did not answer in time", node=self.node) from None
        except OSError as error:  # its stdin is closed
            raise self._ended() from error
        if "error" in answer:
            raise _raised(answer, self.node)
        return answer["result"]

    async def _answer(self) -> dict[str, Any]:
        while (line := await self._stdout.line()) is not None:
            try:
                answer = json.loads(line)["answer"]
            except (ValueError, KeyError, TypeError):  # a library's print
                continue
            assert isinstance(answer, dict)
            return answer
        raise self._ended()

    def _ended(self) -> RankLost:
        last = f": {self.log.tail[-1]}" if self.log.tail else ""
        return RankLost(f"its rank has ended{last}", node=self.node)


class StartRanks:
    """One process per node, certified, each connected to all others."""

    title = "Start ranks"

    def steps(self, launch: Launch) -> Iterator[Step]:
        for node in launch.profile.nodes:
            yield node.name, "a process that exchanges messages with the others"

    async def run(self, launch: Launch, report: Report) -> None:
        launch.workers.clear()
        for index, node in enumerate(launch.profile.nodes):
            launch.workers.append(await _start(launch, index, node))
        await _cover(launch)
        async with FirstError() as group:
            for index, rank in enumerate(launch.workers):
                group.create_task(self._certify(launch, index, rank))
        addresses = [rank.address for rank in launch.workers]
        join = {"addresses": addresses, "group": launch.deployment_id, "timeout_s": JOIN_S}
        async with FirstError() as group:
            for index, rank in enumerate(launch.workers):
                assert isinstance(rank, RankProcess)
                group.create_task(rank.ask({"join": {"rank": index, **join}}, JOIN_S + LATE_S))
        for rank in launch.workers:
            report(PhaseEvent(self.title, "done", node=rank.node, detail=f"listens at {rank.address}"))

    async def undo(self, launch: Launch) -> None:
        await asyncio.gather(*(rank.end() for rank in launch.workers))
        launch.workers.clear()

    async def _certify(self, launch: Launch, index: int, rank: WorkerProcess) -> None:
        try:
            name = rank_name(launch.deployment_id, index)
            await rank.certify(launch.authority, name, launch.address(launch.node(rank.node)))
        except TimeoutError as error:
            raise LaunchError("the rank did not answer in time", node=rank.node) from error


class RankGroup:
    """The running ranks of `launch`, one per node of its profile, in its order."""

    def __init__(self, launch: Launch, report: Report) -> None:
        self.launch = launch
        self._report = report

    @property
    def ranks(self) -> list[RankProcess]:
        return [rank for rank in self.launch.workers if isinstance(rank, RankProcess)]

    async def run(self, task: str, arguments: Mapping[str, Any], timeout_s: float) -> list[Any]:
        """What `task` ("module:function") returns on every rank, called with its communicator and `arguments`.

        Raises the first error of a rank; results travel as JSON.
        """
        order = {"task": task, "arguments": dict(arguments)}
        async with FirstError() as group:
            tasks = [group.create_task(rank.ask(order, timeout_s)) for rank in self.ranks]
        return [each.result() for each in tasks]

    async def restart(self) -> None:
        """New processes in place of the ones that run."""
        start = StartRanks()
        await start.undo(self.launch)
        await start.run(self.launch, self._report)


@asynccontextmanager
async def running_ranks(
    profile: Profile, report: Report, *, accept_new_host_keys: bool = False, wheelhouse: Path | None = None
) -> AsyncIterator[RankGroup]:
    """A rank on each node of `profile`, until the end of the block. Raises LaunchError, AuthenticationError, …"""
    name = f"{PRIVATE_PREFIX}{secrets.token_hex(4)}"
    launch = Launch(profile, name, any_port=True, accept_new_host_keys=accept_new_host_keys, wheelhouse=wheelhouse)
    clear_leftovers()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, cluster_dir(name), ignore_errors=True)
        stack.enter_context(ClusterLock(name))
        await run_phases([Connect(), Install(), Inspect(), StartRanks()], launch, report, stack)
        yield RankGroup(launch, report)


async def _start(launch: Launch, index: int, node: Node) -> RankProcess:
    arguments = ["rank", "--name", rank_name(launch.deployment_id, index), "--host", launch.address(node)]
    machine = launch.machine(node.name)
    process: Process
    if machine is None:
        nodes = [each.name for each in launch.profile.nodes]
        process = await LocalProcess.start(arguments, launch.gpu_environment(node.name, nodes))
    else:
        assert machine.remote is not None and machine.installed is not None
        process = await NodeProcess.start(machine.remote, machine.installed, arguments)
    return RankProcess(node.name, process, NodeLog(logs_dir(launch.name) / f"{node.name}.log"))


async def _cover(launch: Launch) -> None:
    """What runs on other machines ends with the claims on them, should this process vanish."""
    for machine in launch.machines:
        assert machine.claim is not None
        names = {node.name for node in machine.nodes}
        await machine.claim.cover([rank.id for rank in launch.workers if rank.node in names], 0)


def _raised(answer: Mapping[str, Any], node: str) -> MlxctlError:
    kind = getattr(errors, str(answer["error"]), MlxctlError)
    try:
        error = kind(answer["message"], hint=answer["hint"])
    except TypeError:  # a kind with fields of its own
        error = MlxctlError(answer["message"], hint=answer["hint"])
    assert isinstance(error, MlxctlError)
    error.node = node
    return error
