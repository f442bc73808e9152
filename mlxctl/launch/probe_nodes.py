"""NodeFacts of machines that our code need not be on: what a shell there can tell. Called by probe for `plan`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from mlxctl.errors import LaunchError, MlxctlError
from mlxctl.facts import NodeFacts
from mlxctl.launch import node_shell, probe_macos
from mlxctl.launch.phases import FirstError
from mlxctl.profile import Node

if TYPE_CHECKING:
    from mlxctl.launch.ssh import Remote

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 20.0  # system_profiler takes its time
_OTHERWISE = "or give its memory in the profile, or describe the machines in a file for --simulate"


def ask_nodes(nodes: Sequence[Node]) -> tuple[NodeFacts, ...]:
    """Log in to each of `nodes` and ask; nothing is changed there. Blocks. Raises AuthenticationError, LaunchError."""

    async def ask_all() -> list[NodeFacts]:
        async with FirstError() as group:
            tasks = [group.create_task(_ask(node)) for node in nodes]
        return [task.result() for task in tasks]

    with ThreadPoolExecutor(1, thread_name_prefix="nodes") as pool:  # the caller may be inside an event loop
        return tuple(pool.submit(asyncio.run, ask_all()).result())


async def _ask(node: Node) -> NodeFacts:
    from mlxctl.launch.ssh import Remote

    try:
        remote = await Remote.connect(node, accept_new_host_keys=False, timeout_s=CONNECT_TIMEOUT_S)
    except MlxctlError as error:
        error.hint = f"{error.hint}; {_OTHERWISE}" if error.hint else _OTHERWISE
        raise
    try:
        system = (await node_shell.look(remote)).system
        facts = await (_ask_mac(remote) if system == "Darwin" else _ask_linux(remote))
    finally:
        await remote.close()
    return replace(facts, name=node.name, host_id=node.host)


async def _ask_mac(remote: Remote) -> NodeFacts:
    outputs = [await _output(remote, *command) for command in probe_macos.COMMANDS]
    return probe_macos.parse("", *outputs)


async def _ask_linux(remote: Remote) -> NodeFacts:
    return parse_linux(await _output(remote, "cat", "/proc/meminfo"), await _output(remote, "cat", "/proc/cpuinfo"))


async def _output(remote: Remote, *command: str) -> str:
    done = await remote.run(command, timeout_s=COMMAND_TIMEOUT_S)
    return done.stdout


def parse_linux(meminfo: str, cpuinfo: str) -> NodeFacts:
    """Facts from the texts of /proc/meminfo and /proc/cpuinfo. Raises LaunchError."""
    from mlxctl.launch.probe import cpu_name

    pairs = (line.partition(":") for line in meminfo.splitlines())
    try:
        sizes = {key: int(value.split()[0]) << 10 for key, _, value in pairs if value.strip()}
        total, available = sizes["MemTotal"], sizes["MemAvailable"]
    except (ValueError, KeyError) as error:
        raise LaunchError("its system does not tell how much memory it has", hint=_OTHERWISE) from error
    return NodeFacts(
        name="",
        host_id="",
        chip=cpu_name(cpuinfo),
        os="Linux",
        memory_bytes=total,
        available_bytes=available,
        sources={"memory_bytes": "measured", "available_bytes": "measured", "chip": "measured"},
    )
