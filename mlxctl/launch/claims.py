"""The claim on a node: whose cluster it serves, renewed while the launcher lives. Taken when launch connects.

A process of node.sh keeps it there: it ends with the SSH connection, ends workers that outlive that, and takes the
claim's file with it. A claim that nobody renews is stale, and whoever comes next ends what it covers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from mlxctl.errors import ClusterBusy, LaunchError
from mlxctl.launch import node_shell
from mlxctl.launch.node_shell import NodeLook, SeenClaim
from mlxctl.launch.processes import ProcessId

if TYPE_CHECKING:
    from mlxctl.launch.ssh import Remote, RemoteProcess

RENEW_EVERY_S = 4.0
STALE_S = 15.0  # a little more than the workers' lease
PATIENCE_S = 5.0  # for an earlier launch of the same cluster that is ending
POLL_S = 0.5
ANSWER_S = 10.0
RELEASE_S = 4.0
GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a node, for which cluster, and how much of its memory."""

    owner: str
    cluster: str
    memory_bytes: int = 0

    @classmethod
    def of(cls, claim: SeenClaim) -> Holder | None:
        """None for a text that no mlxctl wrote."""
        try:
            return TypeAdapter(cls).validate_json(claim.text)
        except ValidationError:
            return None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def is_stale(claim: SeenClaim) -> bool:
    """Whether nobody is there any more who renews it."""
    return not claim.keeper_is_alive or claim.age_s > STALE_S


def refusal(claim: SeenClaim, node: str) -> ClusterBusy:
    """Why a node with a `claim` that is not stale cannot be had."""
    holder = Holder.of(claim)
    if holder is None:
        return ClusterBusy("another program holds it, in a way that this mlxctl does not know", node=node)
    return ClusterBusy(
        f"it serves cluster {holder.cluster} of {holder.owner}",
        hint=f"wait, or there: mlxctl down {holder.cluster}",
        node=node,
    )


class Claim:
    """Our claim on the node behind `remote`, renewed until released."""

    def __init__(self, keeper: RemoteProcess, holder: Holder) -> None:
        self._keeper = keeper
        self._holder = holder
        self._workers: Sequence[ProcessId] = ()
        self._renewal = asyncio.create_task(self._renew(), name="claim")

    @classmethod
    async def take(cls, remote: Remote, look: NodeLook, holder: Holder) -> Claim:
        """Claim the node for `holder`, after ending what a stale claim covers. Raises ClusterBusy, LaunchError."""
        await _make_way(remote, look, holder)
        keeper = await remote.start(node_shell.command("keep"))
        await keeper.write(node_shell.script() + _line((), holder))
        taken = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                taken = node_shell.value(await keeper.stdout.readline(), "taken")
        if taken == "no":
            return cls(keeper, holder)
        if (claim := (await node_shell.look(remote)).claim) is not None:
            raise refusal(claim, remote.node.name)
        said = (await keeper.stderr.read()).decode(errors="replace").strip().splitlines()[-1:]
        raise remote.error(
            f"it cannot be claimed: {said[0] if said else 'no answer'}", hint=f"look at {look.home} there"
        )

    async def cover(self, workers: Sequence[ProcessId], memory_bytes: int) -> None:
        """The claim now covers `workers`, which end with it."""
        self._workers = workers
        self._holder = Holder(self._holder.owner, self._holder.cluster, memory_bytes)
        await self._keeper.write(_line(workers, self._holder))

    async def release(self) -> None:
        """Give it up; returns when its keeper has ended or does not answer."""
        self._renewal.cancel()
        await asyncio.gather(self._renewal, return_exceptions=True)
        self._keeper.close_stdin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await self._keeper.wait()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await self._keeper.write(_line(self._workers, self._holder))
            except LaunchError:
                return  # the connection is gone; what depends on it says so


async def _make_way(remote: Remote, look: NodeLook, holder: Holder) -> None:
    """Return when nobody else holds the node. Raises ClusterBusy."""
    claim, waited_s = look.claim, 0.0
    while claim is not None and not is_stale(claim):
        other = Holder.of(claim)
        is_ours = other is not None and (other.owner, other.cluster) == (holder.owner, holder.cluster)
        if not is_ours or waited_s >= PATIENCE_S:
            raise refusal(claim, remote.node.name)
        await asyncio.sleep(POLL_S)
        waited_s += POLL_S
        claim = (await node_shell.look(remote)).claim
    if claim is not None:
        ended = await node_shell.clear(remote, (), GRACE_S)
        if ended.left:
            pids = " ".join(str(process.pid) for process in ended.left)
            raise remote.error(
                f"processes of an earlier cluster cannot be ended: {pids}", hint=f"there: kill -9 {pids}"
            )


def _line(workers: Sequence[ProcessId], holder: Holder) -> bytes:
    """What the keeper reads."""
    shown = ",".join(node_shell.shown(worker) for worker in workers) or "-"
    return f"{shown} {holder.to_json()}\n".encode()
