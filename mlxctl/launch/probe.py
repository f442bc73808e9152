"""NodeFacts of this machine: what its operating system says, and where from. Called by launch and `plan`."""

from __future__ import annotations

import platform
import socket
from dataclasses import replace
from pathlib import Path

import psutil

from mlxctl.facts import NodeFacts
from mlxctl.launch import probe_macos
from mlxctl.launch.measured_links import with_measured_links
from mlxctl.launch.probe_nodes import ask_nodes
from mlxctl.profile import Node, Profile

UNLIMITED_BYTES = 1 << 60
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_CGROUP_USES = ("memory.current", "memory/memory.usage_in_bytes")


def probe_local(profile: Profile) -> tuple[NodeFacts, ...]:
    """Facts of every node of `profile` that runs on this machine; they share one `host_id`."""
    local = [node for node in profile.nodes if node.is_local]
    if not local:
        return ()
    machine = probe_machine()
    return tuple(replace(machine, name=node.name) for node in local)


def known_nodes(profile: Profile) -> tuple[NodeFacts, ...]:
    """Facts of every node of `profile`, in its order, for `plan`: this machine is probed, others are asked over SSH
    unless the profile tells their memory; then the rest is assumed. Links that were measured between them are theirs.
    Raises AuthenticationError, LaunchError, UsageError.
    """
    known = {facts.name: facts for facts in probe_local(profile)}
    others = [node for node in profile.nodes if not node.is_local]
    known |= {node.name: _assumed(node, node.memory_bytes) for node in others if node.memory_bytes is not None}
    unknown = [node for node in others if node.name not in known]
    known |= {facts.name: facts for facts in ask_nodes(unknown)} if unknown else {}
    return with_measured_links(profile, [known[node.name] for node in profile.nodes])


def _assumed(node: Node, memory_bytes: int) -> NodeFacts:
    return NodeFacts(
        name=node.name,
        host_id=node.host,
        chip="unknown chip",
        os="macOS",
        memory_bytes=memory_bytes,
        available_bytes=memory_bytes,
        sources={"memory_bytes": "profile", "available_bytes": "assumed"},
    )


def probe_machine() -> NodeFacts:
    """This machine, under the name of its host."""
    name = socket.gethostname()
    return probe_macos.probe(name) if platform.system() == "Darwin" else probe_linux(name)


def probe_linux(name: str, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> NodeFacts:
    """A Linux machine, or the container this process is in."""
    memory = psutil.virtual_memory()
    limit = cgroup_bytes(cgroup, _CGROUP_LIMITS)
    total, available = memory.total, memory.available
    if limit is not None and limit < total:
        used = cgroup_bytes(cgroup, _CGROUP_USES) or 0
        total, available = limit, max(0, min(available, limit - used))
    return NodeFacts(
        name=name,
        host_id=name,
        chip=cpu_name((proc / "cpuinfo").read_text(errors="replace")),
        os="Linux",
        memory_bytes=total,
        available_bytes=available,
        parallel_workers=float(psutil.cpu_count(logical=False) or 1),
        sources={"memory_bytes": "measured", "available_bytes": "measured", "chip": "measured"},
    )


def cpu_name(cpuinfo: str) -> str:
    """The processor in the text of /proc/cpuinfo; the machine's architecture where it is not named (Arm)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model") and value.strip():
            return value.strip()
    return platform.machine()


def cgroup_bytes(root: Path, names: tuple[str, ...]) -> int | None:
    """The first of the cgroup files `names` that holds a limit; None where there is none."""
    for name in names:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < UNLIMITED_BYTES:
            return int(text)
    return None
