"""What a node's facts mean: good, worth a warning, or to be mended first, and by what. Pure; used by doctor."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mlxctl.facts import NodeFacts
from mlxctl.hardware import wired_limit
from mlxctl.launch.doctor.findings import Notes
from mlxctl.launch.doctor.system import Interface, System
from mlxctl.plan.memory import PROCESS_BYTES, Pool
from mlxctl.profile import Node

INSTALL_BYTES = 600 << 20
SKEW_WARN_S = 5.0
SKEW_FAIL_S = 3600.0  # certificates are valid from a day back; logs and tokens are not
LEFT_TO_SYSTEM_BYTES = 4 << 30
EHOSTUNREACH_MACOS = 65
LOCAL_NETWORK = (
    "on that Mac: System Settings > Privacy & Security > Local Network: allow the program that started it "
    "(Terminal, sshd), then log in again"
)


def typed(node: Node, command: str, *, sudo: bool = False) -> str:
    """`command` as it is typed here to run on `node`."""
    words = f"sudo {command}" if sudo else command
    if node.is_local:
        return words
    user = f"{node.user}@" if node.user else ""
    port = f"-p {node.ssh_port} " if "ssh_port" in node.model_fields_set else ""
    return f"ssh {'-t ' if sudo else ''}{port}{user}{node.host} {shlex.quote(words)}"


def judge_disk(notes: Notes, free_bytes: int, home: str, *, is_installed: bool) -> None:
    needed = 0 if is_installed else INSTALL_BYTES
    if free_bytes < needed:
        notes.fail("disk", f"{_size(free_bytes)} free, installing needs {_size(needed)}", f"make room at {home} there")
    elif free_bytes < INSTALL_BYTES:
        notes.warn("disk", f"{_size(free_bytes)} free for the layers it runs", f"make room at {home} there")
    else:
        notes.ok("disk", f"{_size(free_bytes)} free")


def judge_memory(notes: Notes, node: Node, system: System, pool: Pool) -> None:
    """`pool` is what the planner gives to the node, alone or with others of its machine."""
    total, available = system.memory_bytes, system.available_bytes
    wanted = (node.memory_bytes or 0) - node.memory_reserve_bytes
    if wanted > total:
        detail = f"the profile gives it {_size(wanted)}, it has {_size(total)}"
        notes.fail("memory", detail, f"in the profile: memory: {int(total * 0.75) // 10**9}GB for {node.name}")
    elif pool.bytes < PROCESS_BYTES:
        detail = f"{_size(pool.bytes)} of {_size(total)} for us ({pool.reason})"
        notes.fail("memory", detail, f"close programs there; the largest: {typed(node, _LARGEST)}")
    elif wanted > available:
        detail = f"the profile gives it {_size(wanted)}, {_size(available)} of {_size(total)} are free now"
        notes.warn("memory", detail, f"close programs there; the largest: {typed(node, _LARGEST)}")
    else:
        notes.ok("memory", f"{_size(pool.bytes)} of {_size(total)} for us ({pool.reason})")


_LARGEST = "ps -axm -o rss,comm | sort -rn | head -5"


def judge_pressure(notes: Notes, node: Node, system: System) -> None:
    if system.pressure is None:
        notes.skip("pressure", "its system does not tell")
    elif system.pressure == "normal":
        notes.ok("pressure", "normal")
    else:
        mend = f"close programs there; the largest: {typed(node, _LARGEST)}"
        (notes.fail if system.pressure == "critical" else notes.warn)("pressure", system.pressure, mend)


def judge_wired_limit(notes: Notes, node: Node, system: System) -> None:
    """Whether the GPU may hold what the profile gives the node."""
    if system.wired_limit_mb is None:
        notes.skip("wired_limit", "only Macs have one")
        return
    total = system.memory_bytes
    limit, source = wired_limit(total, system.wired_limit_mb)
    most_mb = (total - max(node.memory_reserve_bytes, LEFT_TO_SYSTEM_BYTES, total // 8)) >> 20
    raising = typed(node, f"sysctl iogpu.wired_limit_mb={most_mb}", sudo=True)
    of = f"{_size(limit)} of {_size(total)}" + ("" if source == "measured" else " (macOS's own choice)")
    wanted = (node.memory_bytes or 0) - node.memory_reserve_bytes
    if wanted > limit:
        notes.fail("wired_limit", f"{of}, the profile gives it {_size(wanted)}", f"{raising}  (until it restarts)")
    elif limit > total - LEFT_TO_SYSTEM_BYTES // 2:
        mend = typed(node, f"sysctl iogpu.wired_limit_mb={most_mb}", sudo=True)
        notes.warn("wired_limit", f"{of}: too little is left for macOS, which may then freeze", mend)
    else:
        room = f"; more: {raising}" if most_mb << 20 > limit else ""
        notes.ok("wired_limit", of + room)


def judge_sleep(notes: Notes, node: Node, system: System) -> None:
    power = system.power
    if power is None:
        notes.skip("sleep", "asked on Macs only")
    elif power.on_battery:
        notes.warn("sleep", "on battery: it is slower, and sleeps when closed", "plug it in")
    elif power.low_power:
        notes.warn("sleep", "low-power mode makes it slower", typed(node, "pmset -a lowpowermode 0", sudo=True))
    elif power.sleep_minutes and not power.kept_awake_by:
        detail = f"sleeps after {power.sleep_minutes} min; a cluster that is up keeps it awake, a closed lid does not"
        notes.warn("sleep", detail, typed(node, "pmset -c sleep 0", sudo=True))
    else:
        awake = f"kept awake by {power.kept_awake_by}" if power.sleep_minutes else "never"
        notes.ok("sleep", awake)


def judge_clock(notes: Notes, node: Node, system_name: str, skew_s: float) -> None:
    """`skew_s`: how far its clock is ahead of this machine's."""
    shown = f"{abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
    setting = "sntp -sS time.apple.com" if system_name == "darwin" else "timedatectl set-ntp true"
    mend = f"{typed(node, setting, sudo=True)}, unless it is this machine's clock that is wrong"
    if abs(skew_s) > SKEW_FAIL_S:
        notes.fail("clock", shown, mend)
    elif abs(skew_s) > SKEW_WARN_S:
        notes.warn("clock", shown, mend)
    else:
        notes.ok("clock", f"within {max(abs(skew_s), 0.1):.1f} s of this machine's")


def judge_ports(
    notes: Notes, node: Node, system_name: str, answer: Mapping[str, Any], address: str, wanted: int, ours: set[int]
) -> None:
    """`answer` is the agent's to `listen` at `address` from `wanted`; `ours` are ports of this cluster's workers."""
    if "error" in answer:
        mend = f"its addresses: {typed(node, 'ifconfig' if system_name == 'darwin' else 'ip address')}"
        notes.fail("ports", f"it cannot listen on {address}: {answer['error']}", f"set data_address for it; {mend}")
    elif wanted in ours:
        notes.ok("ports", f"{wanted} is held by this cluster's own worker")
    elif answer["port"] is None:
        who = f"lsof -nP -iTCP:{wanted} -sTCP:LISTEN" if system_name == "darwin" else f"ss -ltnp 'sport = :{wanted}'"
        detail = f"{wanted} is taken"
        notes.fail("ports", detail, f"stop what listens there ({typed(node, who, sudo=True)}) or set another grpc_port")
    else:
        taken = f"; taken: {', '.join(map(str, answer['taken']))}" if answer["taken"] else ""
        notes.ok("ports", f"{answer['port']} at {address}{taken}")


def why_unreached(system_name: str, address: str, port: int, errno: int, error: str) -> tuple[str, str]:
    """What is wrong and what mends it, where a probe on a `system_name` machine could not dial `address`."""
    if system_name == "darwin" and errno == EHOSTUNREACH_MACOS:
        return f"no route to {address} (errno 65): macOS's Local Network privacy forbids it", LOCAL_NETWORK
    if "timed out" in error:
        mend = (
            f"a firewall may drop it: let TCP port {port} in there, or set data_address to a network that both are on"
        )
        return f"no answer from {address} port {port}", mend
    return f"{address} port {port}: {error}", "set data_address to a network that both are on"


def judge_link(notes: Notes, detail: str, ends: Sequence[tuple[str, Interface | None]]) -> None:
    """`detail` is the slowest link to this node; `ends` are the interfaces that its links go through, by machine."""
    wireless = [
        f"{interface.name} of {machine}" for machine, interface in ends if interface and _is_wireless(interface)
    ]
    if wireless:
        mend = "connect them by cable and set data_address to the cable's addresses"
        notes.warn("link", f"{detail}; Wi-Fi ({', '.join(dict.fromkeys(wireless))}) is slow and uneven", mend)
    else:
        notes.ok("link", detail)


def node_facts(node: Node, host_id: str, system: System) -> NodeFacts:
    """As much as the planner's memory budget needs."""
    limit = None
    if system.wired_limit_mb is not None:
        limit = wired_limit(system.memory_bytes, system.wired_limit_mb)[0]
    return NodeFacts(
        name=node.name,
        host_id=host_id,
        chip="",
        os="macOS" if system.is_mac else "Linux",
        memory_bytes=system.memory_bytes,
        available_bytes=system.available_bytes,
        wired_limit_bytes=limit,
    )


def rate(bytes_per_s: float) -> str:
    """As networks are called: 118e6 → "940 Mbit/s"."""
    bits = bytes_per_s * 8
    return f"{bits / 1e9:.1f} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:.0f} Mbit/s"


def _is_wireless(interface: Interface) -> bool:
    return interface.medium == "Wi-Fi"


def _size(count_bytes: int) -> str:
    gib = count_bytes / (1 << 30)
    return f"{gib:.1f} GiB" if gib >= 1 else f"{count_bytes >> 20} MiB"
