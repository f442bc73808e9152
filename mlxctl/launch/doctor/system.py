"""What a node's system says of memory, sleep and networks, from the text of its tools. Pure; read by doctor's checks.

Unverified on a Mac so far: the texts that the parsers are tested with have the form that users of Macs published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlxctl.launch.probe import cpu_name
from mlxctl.launch.probe_macos import parse_sysctl, parse_vm_stat

Medium = Literal["loopback", "ethernet", "Wi-Fi", "Thunderbolt bridge", "Thunderbolt", "VPN", "unknown"]
Pressure = Literal["normal", "warning", "critical"]

MAC_COMMANDS: dict[str, list[str]] = {
    "sysctl": [
        "/usr/sbin/sysctl",
        "hw.memsize",
        "machdep.cpu.brand_string",
        "iogpu.wired_limit_mb",
        "kern.memorystatus_vm_pressure_level",
    ],
    "vm_stat": ["/usr/bin/vm_stat"],
    "pmset": ["/usr/bin/pmset", "-g"],
    "battery": ["/usr/bin/pmset", "-g", "batt"],
    "ifconfig": ["/sbin/ifconfig", "-a"],
    "ports": ["/usr/sbin/networksetup", "-listallhardwareports"],
}
_CGROUP = "/sys/fs/cgroup/"
LINUX_PATHS = [
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/pressure/memory",
    f"{_CGROUP}memory.max",
    f"{_CGROUP}memory.current",
    f"{_CGROUP}memory/memory.limit_in_bytes",
    f"{_CGROUP}memory/memory.usage_in_bytes",
]
_PRESSURES: dict[str, Pressure] = {"1": "normal", "2": "warning", "4": "critical"}
_STALLED_WARNING, _STALLED_CRITICAL = 5.0, 40.0  # percent of the last 10 s in which something waited for memory
_SETTING = re.compile(r"^ (\w+)\s+(\S+)(?: \((.*)\))?\s*$", re.MULTILINE)
_PORT = re.compile(r"Hardware Port: (.*)\nDevice: (\S+)")
_INTERFACE = re.compile(r"^(\w+): flags=", re.MULTILINE)
_ADDRESS = re.compile(r"^\s+inet6? ([0-9a-fA-F:.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface and what it sends through."""

    name: str
    addresses: Sequence[str]
    medium: Medium


@dataclass(frozen=True, slots=True)
class Power:
    """A Mac's settings: minutes until it sleeps (0: never), who keeps it awake now, low-power mode, battery."""

    sleep_minutes: int
    kept_awake_by: str
    low_power: bool
    on_battery: bool


@dataclass(frozen=True, slots=True)
class System:
    """`wired_limit_mb` is what was set (0: macOS's own choice); it and `power` are None where there are none."""

    is_mac: bool
    chip: str
    memory_bytes: int
    available_bytes: int
    pressure: Pressure | None
    wired_limit_mb: int | None
    power: Power | None
    interfaces: Sequence[Interface]

    def interface_of(self, address: str) -> Interface | None:
        """The interface that has this address."""
        return next((each for each in self.interfaces if address.partition("%")[0] in each.addresses), None)


def read_system(answer: Mapping[str, Any]) -> System | None:
    """From an agent's answer; None where its tools told nothing of use."""
    try:
        return _mac(answer["outputs"]) if answer["system"] == "darwin" else _linux(answer)
    except (KeyError, ValueError):
        return None


def _mac(outputs: Mapping[str, str]) -> System:
    settings = parse_sysctl(outputs["sysctl"])
    return System(
        is_mac=True,
        chip=settings.get("machdep.cpu.brand_string", "Apple silicon"),
        memory_bytes=int(settings["hw.memsize"]),
        available_bytes=parse_vm_stat(outputs["vm_stat"]),
        pressure=_PRESSURES.get(settings.get("kern.memorystatus_vm_pressure_level", "")),
        wired_limit_mb=int(settings.get("iogpu.wired_limit_mb", "0")),
        power=parse_power(outputs["pmset"], outputs["battery"]),
        interfaces=parse_interfaces(outputs["ifconfig"], outputs["ports"]),
    )


def parse_power(settings: str, battery: str) -> Power | None:
    """From `pmset -g` and `pmset -g batt`; None where the first tells no sleep."""
    found = {name: (value, reason) for name, value, reason in _SETTING.findall(settings)}
    minutes, reason = found.get("sleep", ("", ""))
    if not minutes.isdecimal():
        return None
    return Power(
        sleep_minutes=int(minutes),
        kept_awake_by=reason.removeprefix("sleep prevented by "),
        low_power="1" in (found.get(name, ("0", ""))[0] for name in ("lowpowermode", "powermode")),
        on_battery="'Battery Power'" in battery,
    )


def parse_interfaces(ifconfig: str, hardware_ports: str) -> tuple[Interface, ...]:
    """From `ifconfig -a` and `networksetup -listallhardwareports`."""
    ports = {device: port for port, device in _PORT.findall(hardware_ports)}
    _, *parts = _INTERFACE.split(ifconfig)
    blocks = zip(parts[::2], parts[1::2], strict=True)
    return tuple(
        Interface(name, tuple(_ADDRESS.findall(block)), _mac_medium(name, ports.get(name, "")))
        for name, block in blocks
    )


def _mac_medium(name: str, port: str) -> Medium:
    if name.startswith("lo"):
        return "loopback"
    if name.startswith("utun"):
        return "VPN"
    if port == "Wi-Fi":
        return "Wi-Fi"
    if port == "Thunderbolt Bridge":
        return "Thunderbolt bridge"
    if re.fullmatch(r"Thunderbolt \d+", port):
        return "Thunderbolt"
    return "ethernet" if "Ethernet" in port or "LAN" in port else "unknown"


def _linux(answer: Mapping[str, Any]) -> System:
    files = answer["files"]
    memory = {key: int(value.split()[0]) << 10 for key, value in _pairs(files["/proc/meminfo"])}
    total, available = memory["MemTotal"], memory["MemAvailable"]
    limit = _number(files, "memory.max", "memory/memory.limit_in_bytes")
    if limit is not None and limit < total:
        used = _number(files, "memory.current", "memory/memory.usage_in_bytes") or 0
        total, available = limit, max(0, min(available, limit - used))
    return System(
        is_mac=False,
        chip=cpu_name(files["/proc/cpuinfo"]),
        memory_bytes=total,
        available_bytes=available,
        pressure=parse_stalls(files["/proc/pressure/memory"]),
        wired_limit_mb=None,
        power=None,
        interfaces=tuple(_linux_interface(each) for each in answer["interfaces"]),
    )


def parse_stalls(text: str) -> Pressure | None:
    """From /proc/pressure/memory."""
    found = re.search(r"^some avg10=([\d.]+)", text, re.MULTILINE)
    if found is None:
        return None
    share = float(found[1])
    return "critical" if share > _STALLED_CRITICAL else "warning" if share > _STALLED_WARNING else "normal"


def _linux_interface(fields: Mapping[str, Any]) -> Interface:
    name = fields["name"]
    medium: Medium = "ethernet"
    if name == "lo":
        medium = "loopback"
    elif fields["wireless"]:
        medium = "Wi-Fi"
    elif name.startswith(("tun", "wg", "tailscale")):
        medium = "VPN"
    elif name.startswith("thunderbolt"):
        medium = "Thunderbolt"
    return Interface(name, tuple(fields["addresses"]), medium)


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (line.partition(":") for line in text.splitlines()) if value.strip()]


def _number(files: Mapping[str, str], *names: str) -> int | None:
    texts = (files[_CGROUP + name].strip() for name in names)
    return next((int(text) for text in texts if text.isdecimal()), None)
