"""The first phases of a launch: reach the nodes, have our code there, learn what they are. Run by the daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from pydantic import TypeAdapter, ValidationError

from mlxctl.checkpoint import beside_loop, read_model_facts
from mlxctl.errors import LaunchError
from mlxctl.facts import NodeFacts
from mlxctl.launch import node_shell
from mlxctl.launch.claims import Claim, Holder
from mlxctl.launch.events import PhaseEvent, Report
from mlxctl.launch.launch import Launch, Machine
from mlxctl.launch.measured_links import with_measured_links
from mlxctl.launch.node_shell import NodeLook
from mlxctl.launch.phases import FirstError, Step
from mlxctl.launch.probe import probe_local
from mlxctl.launch.state import owner

CONNECT_TIMEOUT_S = 10.0
FACTS_TIMEOUT_S = 60.0


class ReadModel:
    """The model is complete and its layers are counted; first of all, since nothing else is needed to tell."""

    title = "Read the model"

    def steps(self, launch: Launch) -> Iterator[Step]:
        yield None, f"the configuration and headers of {launch.profile.model}"

    async def run(self, launch: Launch, report: Report) -> None:
        launch.model = await beside_loop(partial(read_model_facts, launch.profile.model))
        report(PhaseEvent(self.title, "running", detail=f"{launch.model.name}, {len(launch.model.layers)} layers"))

    async def undo(self, launch: Launch) -> None:
        """Nothing was changed."""


class Connect:
    """Every node lets us in and is nobody else's."""

    title = "Connect"

    def steps(self, launch: Launch) -> Iterator[Step]:
        for machine in launch.machines:
            yield machine.node.name, f"log in at {_way(machine)}, check its host key, claim it for {launch.name}"

    async def run(self, launch: Launch, report: Report) -> None:
        async with FirstError() as group:
            for machine in launch.machines:
                group.create_task(self._connect(launch, machine, report))

    async def undo(self, launch: Launch) -> None:
        await asyncio.gather(*(self._disconnect(machine) for machine in launch.machines))

    async def _connect(self, launch: Launch, machine: Machine, report: Report) -> None:
        from mlxctl.launch.ssh import Remote  # asyncssh takes half a second, and not every profile has other machines

        machine.remote = remote = await Remote.connect(
            machine.node, accept_new_host_keys=launch.accept_new_host_keys, timeout_s=CONNECT_TIMEOUT_S
        )
        machine.look = look = await node_shell.look(remote)
        _require_address(machine, look)
        machine.claim = await Claim.take(remote, look, Holder(owner(), launch.name))
        for node in machine.nodes:
            detail = f"{remote.user} at {look.address or node.host}, {look.system}"
            report(PhaseEvent(self.title, "done", node=node.name, detail=detail))

    async def _disconnect(self, machine: Machine) -> None:
        if machine.claim is not None:
            await machine.claim.release()
        if machine.remote is not None:
            await machine.remote.close()


class Install:
    """Every node has this mlxctl, with the same mlx and mlx-lm."""

    title = "Install mlxctl"

    def steps(self, launch: Launch) -> Iterator[Step]:
        wheels = f"the wheels of {launch.wheelhouse}" if launch.wheelhouse else "wheels from here"
        for machine in launch.machines:
            python = machine.node.python or "a Python 3.11 or later"
            yield machine.node.name, f"a venv of this version from {python} and {wheels}, unless it is there"

    async def run(self, launch: Launch, report: Report) -> None:
        from mlxctl.launch.provision import require_equal_versions

        async with FirstError() as group:
            for machine in launch.machines:
                group.create_task(self._install(launch, machine, report))
        require_equal_versions({m.node.name: m.installed for m in launch.machines if m.installed is not None})

    async def undo(self, launch: Launch) -> None:
        """What was installed stays for the next time."""

    async def _install(self, launch: Launch, machine: Machine, report: Report) -> None:
        from mlxctl.launch.provision import provision

        assert machine.remote is not None

        def say(line: str) -> None:
            for node in machine.nodes:
                report(PhaseEvent(self.title, "running", node=node.name, detail=line))

        machine.installed = there = await provision(
            machine.remote, machine.node, wheelhouse=launch.wheelhouse, report=say
        )
        versions = f"mlxctl {there.mlxctl_version}, mlx {there.mlx_version}, mlx-lm {there.mlx_lm_version}"
        for node in machine.nodes:
            report(PhaseEvent(self.title, "done", node=node.name, detail=versions))


class Inspect:
    """Every node's memory is known."""

    title = "Inspect nodes"

    def steps(self, launch: Launch) -> Iterator[Step]:
        for node in launch.profile.nodes:
            yield node.name, "ask for its memory and processor"

    async def run(self, launch: Launch, report: Report) -> None:
        async with FirstError() as group:
            local = group.create_task(asyncio.to_thread(probe_local, launch.profile))
            tasks = [group.create_task(_facts(machine)) for machine in launch.machines]
        found = {facts.name: facts for facts in local.result()}
        found |= {facts.name: facts for task in tasks for facts in task.result()}
        launch.nodes = with_measured_links(launch.profile, [found[node.name] for node in launch.profile.nodes])

    async def undo(self, launch: Launch) -> None:
        """Nothing was changed."""


def _require_address(machine: Machine, look: NodeLook) -> None:
    """Raises LaunchError for an address that means another interface on every machine."""
    if look.address.startswith("fe80:") and any(node.data_address is None for node in machine.nodes):
        hint = "give its data_address in the profile: the address that the other nodes reach it by"
        raise LaunchError(f"it is reached by the link-local address {look.address}", hint=hint, node=machine.node.name)


async def _facts(machine: Machine) -> list[NodeFacts]:
    """What our own code says there of the machine, for each of its nodes. Raises LaunchError."""
    assert machine.remote is not None and machine.installed is not None
    done = await machine.remote.run(
        [machine.installed.python, "-P", "-m", "mlxctl", "facts"], timeout_s=FACTS_TIMEOUT_S
    )
    try:
        facts = TypeAdapter(NodeFacts).validate_python(json.loads(done.stdout.strip().splitlines()[-1])["facts"])
    except (ValueError, KeyError, TypeError, IndexError, ValidationError) as error:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise machine.remote.error(f"our code there does not tell what it is on: {last[0]}") from error
    return [replace(facts, name=node.name, host_id=machine.node.host) for node in machine.nodes]


def _way(machine: Machine) -> str:
    node = machine.node
    user = f"{node.user}@" if node.user else ""
    port = f" port {node.ssh_port}" if "ssh_port" in node.model_fields_set else ""
    return f"{user}{node.host}{port}"
