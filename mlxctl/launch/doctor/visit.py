"""Doctor's visit to one machine: the way in, who holds it, what it could run, what it is. Called by doctor's steps."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from dataclasses import dataclass, field, replace

from mlxctl.errors import AuthenticationError, HostKeyRefused, LaunchError, MlxctlError
from mlxctl.launch import node_shell
from mlxctl.launch.claims import Holder, is_stale, refusal
from mlxctl.launch.doctor import judge
from mlxctl.launch.doctor.agents import Agent
from mlxctl.launch.doctor.findings import CHECKS, HERE, Finding, Notes
from mlxctl.launch.doctor.system import LINUX_PATHS, MAC_COMMANDS, System, read_system
from mlxctl.launch.launch import Machine
from mlxctl.launch.node_shell import SeenClaim
from mlxctl.launch.provision import Installed, installed_here, pythons, require_equal_versions
from mlxctl.launch.provision.steps import examine, venv_name
from mlxctl.launch.ssh import Destination, Remote, destination
from mlxctl.launch.state import owner
from mlxctl.paths import home
from mlxctl.profile import Node

CONNECT_TIMEOUT_S = 10.0
TCP_TIMEOUT_S = 5.0
CLEAR_GRACE_S = 2.0


class Blocked(Exception):
    """What was just noted as failed makes all further checks of the machine impossible."""


@dataclass(slots=True)
class Visit:
    """One machine and what it told; `machine` None is this one. `shared` are findings that hold for all its nodes.

    `agent` and `system` are None where the visit did not get that far.
    """

    machine: Machine | None
    nodes: tuple[Node, ...]
    shared: Notes = field(init=False)
    own: dict[str, Notes] = field(init=False)
    agent: Agent | None = None
    system: System | None = None
    system_name: str = sys.platform
    host_name: str = ""
    python: str = ""

    def __post_init__(self) -> None:
        self.own = {node.name: Notes(node.name) for node in self.nodes}
        self.shared = Notes(self.name)

    @property
    def name(self) -> str:
        return self.machine.node.name if self.machine is not None else HERE

    @property
    def remote(self) -> Remote:
        assert self.machine is not None and self.machine.remote is not None
        return self.machine.remote

    def findings(self, node: str) -> list[Finding]:
        """All of `node`, in the order of CHECKS; what could not be checked says so."""
        found = Notes(node)
        found.findings = [*(replace(each, node=node) for each in self.shared.findings), *self.own[node].findings]
        found.skip_rest("not checked: see above")
        order = list(CHECKS)
        return sorted(found.findings, key=lambda finding: order.index(finding.check))

    async def end(self) -> None:
        """Return when nothing of the visit is left."""
        if self.agent is not None:
            await self.agent.end()
        if self.machine is not None and self.machine.remote is not None:
            await self.machine.remote.close()


async def visit_node(visit: Visit, cluster: str, *, fix: bool = False, accept_new_host_keys: bool = False) -> None:
    """Fill in `visit` to a machine reached over SSH. Raises nothing that the machine could be the reason of."""
    assert visit.machine is not None
    try:
        await _way_in(visit, visit.machine, accept_new_host_keys)
        await _holder(visit, visit.machine, cluster, fix=fix)
        python = await _software(visit, visit.machine.node)
        visit.python = python
        visit.agent = await Agent.start_on(visit.remote, python)
        await _ask(visit, visit.machine.look.home if visit.machine.look else "/")
    except Blocked:
        return
    except MlxctlError as error:
        visit.shared.fail(_next_check(visit), error.message, error.hint)


async def visit_here(visit: Visit) -> None:
    """Fill in `visit` to this machine. Raises LaunchError."""
    for check in ("resolve", "tcp", "host_key", "login", "claim"):
        visit.shared.skip(check, "this machine")
    visit.python = sys.executable
    visit.shared.ok("python", visit.python)
    _versions(visit, installed_here())
    visit.agent = await Agent.start_here(visit.name)
    await _ask(visit, str(home()), is_installed=True)


async def _way_in(visit: Visit, machine: Machine, accept_new_host_keys: bool) -> None:
    """Log in, noting each step of the way. Raises Blocked."""
    node, notes = machine.node, visit.shared
    place = await destination(node)
    if place.direct:
        await _resolve(notes, node, place)
        await _knock(notes, node, place)
    else:
        notes.skip("resolve", "reached through another host (~/.ssh/config)")
        notes.skip("tcp", "reached through another host (~/.ssh/config)")
    try:
        machine.remote = await Remote.connect(
            node, accept_new_host_keys=accept_new_host_keys, timeout_s=CONNECT_TIMEOUT_S
        )
    except HostKeyRefused as error:
        notes.fail("host_key", error.message, error.hint)
        raise Blocked from error
    except AuthenticationError as error:
        notes.ok("host_key", "known")
        notes.fail("login", error.message, error.hint)
        raise Blocked from error
    notes.ok("host_key", "known")
    notes.ok("login", machine.remote.user)


async def _resolve(notes: Notes, node: Node, place: Destination) -> None:
    try:
        found = await asyncio.to_thread(socket.getaddrinfo, place.host, place.port, type=socket.SOCK_STREAM)
    except OSError as error:
        mend = f"write its address into the profile (host: for {node.name}), or an alias into ~/.ssh/config"
        local = "; names in .local need both on one network" if place.host.endswith(".local") else ""
        notes.fail("resolve", f"nobody knows the name {place.host}{local}", mend)
        raise Blocked from error
    notes.ok("resolve", ", ".join(dict.fromkeys(str(each[4][0]) for each in found)))


async def _knock(notes: Notes, node: Node, place: Destination) -> None:
    try:  # not asyncio's: where a name has several addresses, its error has no number
        connection = await asyncio.to_thread(socket.create_connection, (place.host, place.port), TCP_TIMEOUT_S)
        connection.close()
    except ConnectionRefusedError as error:
        mend = "turn SSH on there (macOS: System Settings > General > Sharing > Remote Login; Debian: openssh-server)"
        notes.fail("tcp", f"nothing listens on port {place.port}", mend)
        raise Blocked from error
    except OSError as error:
        number = error.errno or errno.ETIMEDOUT
        why, mend = judge.why_unreached(sys.platform, place.host, place.port, number, error.strerror or "timed out")
        is_off = "is it on and awake? try: ping " + place.host if "no answer" in why else mend
        notes.fail("tcp", why, is_off)
        raise Blocked from error
    notes.ok("tcp", f"port {place.port}")


async def _holder(visit: Visit, machine: Machine, cluster: str, *, fix: bool) -> None:
    """Whose the node is, and whether something of ours was left there; `fix` ends and removes that."""
    notes = visit.shared
    machine.look = await node_shell.look(visit.remote)
    claim = machine.look.claim
    if claim is not None and not is_stale(claim):
        notes.ok("leftovers", "nothing")
        ours = Holder.of(claim)
        if ours is not None and (ours.owner, ours.cluster) == (owner(), cluster):
            notes.ok("claim", f"serves {cluster}")
        else:
            error = refusal(claim, machine.node.name)
            notes.fail("claim", error.message, error.hint)
        return
    notes.ok("claim", "nobody's")
    if claim is None:
        notes.ok("leftovers", "nothing")
    elif fix:
        await _clear(visit)
    else:
        notes.fail("leftovers", _left_over(claim), "mlxctl doctor --fix")


async def _clear(visit: Visit) -> None:
    ended = await node_shell.clear(visit.remote, (), CLEAR_GRACE_S)
    if ended.left:
        pids = " ".join(str(process.pid) for process in ended.left)
        visit.shared.fail("leftovers", f"processes {pids} cannot be ended", f"there: sudo kill -9 {pids}")
    else:
        visit.shared.ok("leftovers", f"removed: a stale claim, {len(ended.ran)} processes ended")


def _left_over(claim: SeenClaim) -> str:
    holder = Holder.of(claim)
    whose = f" of cluster {holder.cluster} of {holder.owner}" if holder is not None else ""
    return f"a claim{whose} that nobody renews any more, with {len(claim.workers)} workers"


async def _software(visit: Visit, node: Node) -> str:
    """The Python to ask with; notes Python, versions and, where there is none, the disk. Raises Blocked."""
    notes = visit.shared
    seen = await examine(visit.remote, node, await asyncio.to_thread(venv_name, node))
    if seen.installed is not None:
        notes.ok("python", seen.installed.python)
        _versions(visit, seen.installed)
        return seen.installed.python
    python = pythons.choose(seen.pythons, [(sys.version_info[0], sys.version_info[1])])
    if python is None:
        reason = pythons.why_none(seen.pythons, seen.broken, seen.missing_python)
        notes.fail("python", reason, pythons.mend(seen.system))
        raise Blocked
    notes.ok("python", f"{python.path}, {'.'.join(map(str, python.version))}")
    notes.ok("versions", "mlxctl is not there yet: up installs it")
    if seen.unwritable is not None:
        mend = judge.typed(node, f"chown -R $(whoami) {seen.unwritable}", sudo=True)
        notes.fail("disk", f"{seen.unwritable} cannot be written to", mend)
    return python.path


def _versions(visit: Visit, installed: Installed) -> None:
    versions = f"mlxctl {installed.mlxctl_version}, mlx {installed.mlx_version}, mlx-lm {installed.mlx_lm_version}"
    try:
        require_equal_versions({visit.name: installed})
    except LaunchError as error:
        visit.shared.fail("versions", error.message, error.hint)
    else:
        visit.shared.ok("versions", versions)


async def _ask(visit: Visit, folder: str, *, is_installed: bool | None = None) -> None:
    """What the agent says of the system; notes disk, pressure, sleep and clock."""
    assert visit.agent is not None
    answer = await visit.agent.ask("ask", commands={"darwin": MAC_COMMANDS}, paths=LINUX_PATHS, home=folder)
    notes, node = visit.shared, visit.nodes[0] if visit.nodes else Node(name="here", host="localhost")
    visit.host_name = answer.fields["host_name"]
    visit.system_name = answer.fields["system"]
    visit.system = read_system(answer.fields)
    made = {finding.check for finding in notes.findings}
    if "disk" not in made:
        there = any(each.check == "versions" and "not there" not in each.detail for each in notes.findings)
        judge.judge_disk(notes, answer.fields["free_bytes"], folder, is_installed=is_installed or there)
    skew_s = answer.fields["time_s"] - (answer.asked_s + answer.answered_s) / 2
    judge.judge_clock(notes, node, visit.system_name, skew_s)
    if visit.system is not None:
        judge.judge_pressure(notes, node, visit.system)
        judge.judge_sleep(notes, node, visit.system)


def _next_check(visit: Visit) -> str:
    """The first check that has no finding: the one that was being made."""
    made = {finding.check for finding in visit.shared.findings}
    return next(check for check in CHECKS if check not in made)
