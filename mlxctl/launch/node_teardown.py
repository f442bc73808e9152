"""Cleans the machines of a cluster over SSH and verifies that nothing of it is left there. Called by teardown."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlxctl.errors import LaunchError, MlxctlError
from mlxctl.launch import node_shell
from mlxctl.launch.claims import Holder
from mlxctl.launch.launch import Machine, machines_of
from mlxctl.launch.state import ClusterState, WorkerRecord
from mlxctl.profile import Profile

if TYPE_CHECKING:
    from mlxctl.launch.ssh import Remote

CONNECT_TIMEOUT_S = 5.0
GRACE_S = 2.0
PORT_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What was found on the machine of `node`: processes that had to be ended; `problem` says why it is not clean."""

    node: str
    ended: tuple[int, ...] = ()
    problem: MlxctlError | None = None


def clean_nodes(profile: Profile, state: ClusterState, *, force: bool) -> tuple[NodeReport, ...]:
    """End what is left of the cluster on every machine reached over SSH, and look whether that worked. Blocks."""
    machines = machines_of(profile)
    if not machines:
        return ()

    async def clean_all() -> list[NodeReport]:
        return await asyncio.gather(*(_clean(machine, state, 0.0 if force else GRACE_S) for machine in machines))

    with ThreadPoolExecutor(1, thread_name_prefix="nodes") as pool:  # the caller may be inside an event loop
        return tuple(pool.submit(asyncio.run, clean_all()).result())


async def _clean(machine: Machine, state: ClusterState, grace_s: float) -> NodeReport:
    from mlxctl.launch.ssh import Remote

    try:
        remote = await Remote.connect(machine.node, accept_new_host_keys=False, timeout_s=CONNECT_TIMEOUT_S)
        try:
            return await _clean_over(remote, machine, state, grace_s)
        finally:
            await remote.close()
    except MlxctlError as error:
        return NodeReport(machine.node.name, problem=error)


async def _clean_over(remote: Remote, machine: Machine, state: ClusterState, grace_s: float) -> NodeReport:
    look = await node_shell.look(remote)
    names = {node.name for node in machine.nodes}
    workers = [worker for worker in state.workers if worker.node in names and worker.boot_id == look.boot_id]
    processes = [worker.process for worker in workers]
    mine = Holder(state.owner, state.name)
    holder = Holder.of(look.claim) if look.claim is not None else None
    if holder is not None and (holder.owner, holder.cluster) == (mine.owner, mine.cluster):
        ended = await node_shell.clear(remote, processes, grace_s)
    else:
        ended = await node_shell.end(remote, processes, grace_s)
    if ended.left:
        pids = " ".join(str(process.pid) for process in ended.left)
        raise remote.error(f"processes cannot be ended: {pids}", hint=f"there: kill -9 {pids}")
    for worker in workers:
        await _require_closed(worker)
    return NodeReport(machine.node.name, tuple(process.pid for process in ended.ran))


async def _require_closed(worker: WorkerRecord) -> None:
    """Raises LaunchError if something still answers where the worker listened."""
    host, _, port = worker.address.rpartition(":")
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(PORT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
        raise LaunchError(f"something listens on port {port} all the same", hint="look at it there", node=worker.node)
