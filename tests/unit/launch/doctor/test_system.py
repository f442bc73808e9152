"""What is read from the tools of Macs (see mac_samples for where the texts are from) and of Linux."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mlxctl.launch.doctor.system import System, parse_stalls, read_system
from tests.unit.launch.doctor.mac_samples import LAPTOP, MINI, STUDIO

pytestmark = pytest.mark.unit

GIB = 1 << 30


def mac(outputs: Mapping[str, str]) -> System:
    system = read_system({"system": "darwin", "outputs": outputs})
    assert system is not None
    return system


def linux(**files: str) -> System | None:
    names = {"meminfo": "/proc/meminfo", "pressure": "/proc/pressure/memory", "limit": "/sys/fs/cgroup/memory.max"}
    paths = dict.fromkeys(
        ("memory.max", "memory.current", "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"), ""
    )
    texts = {f"/sys/fs/cgroup/{name}": text for name, text in paths.items()} | {
        "/proc/pressure/memory": "",
        "/proc/cpuinfo": "model name : A chip\n",
    }
    interfaces = [
        {"name": "lo", "addresses": ["127.0.0.1"], "wireless": False},
        {"name": "wlan0", "addresses": ["10.0.0.5"], "wireless": True},
    ]
    texts |= {names[name]: text for name, text in files.items()}
    return read_system({"system": "linux", "files": texts, "interfaces": interfaces})


def test_a_mac_s_memory_and_pressure() -> None:
    studio, laptop, mini = mac(STUDIO), mac(LAPTOP), mac(MINI)
    assert studio.chip == "Apple M2 Ultra"
    assert (studio.memory_bytes, studio.wired_limit_mb, studio.pressure) == (64 * GIB, 0, "normal")
    assert studio.available_bytes == (2321451 + 601922 + 16022 + 5210) * 16384
    assert (laptop.wired_limit_mb, laptop.pressure, mini.pressure) == (40960, "warning", "critical")


def test_a_mac_s_power_settings() -> None:
    studio, laptop, mini = mac(STUDIO).power, mac(LAPTOP).power, mac(MINI).power
    assert studio is not None and laptop is not None and mini is not None
    assert (studio.sleep_minutes, studio.on_battery, studio.low_power) == (0, False, False)
    assert (laptop.on_battery, laptop.low_power) == (True, True)
    assert (laptop.sleep_minutes, laptop.kept_awake_by) == (1, "powerd, caffeinate, sharingd")
    assert (mini.sleep_minutes, mini.kept_awake_by) == (15, "")


@pytest.mark.parametrize(
    ("outputs", "address", "name", "medium"),
    [
        (STUDIO, "10.0.0.21", "en0", "ethernet"),
        (STUDIO, "192.168.101.1", "bridge0", "Thunderbolt bridge"),
        (STUDIO, "10.0.0.121", "en1", "Wi-Fi"),
        (STUDIO, "100.64.0.7", "utun3", "VPN"),
        (STUDIO, "127.0.0.1", "lo0", "loopback"),
        (STUDIO, "fe80::1c9d:22aa:3bcd:77ef%en0", "en0", "ethernet"),
        (LAPTOP, "2001:db8::30", "en0", "Wi-Fi"),
        (MINI, "10.0.0.40", "en7", "ethernet"),
        (MINI, "169.254.11.12", "en2", "Thunderbolt"),
    ],
)
def test_an_address_tells_what_a_mac_sends_through(
    outputs: Mapping[str, str], address: str, name: str, medium: str
) -> None:
    interface = mac(outputs).interface_of(address)
    assert interface is not None and (interface.name, interface.medium) == (name, medium)


def test_an_address_that_no_interface_has_is_of_none() -> None:
    assert mac(STUDIO).interface_of("10.9.9.9") is None


def test_a_mac_that_tells_nothing_is_no_crash() -> None:
    assert read_system({"system": "darwin", "outputs": dict.fromkeys(STUDIO, "")}) is None
    system = mac({**STUDIO, "pmset": "", "ifconfig": "", "ports": ""})
    assert (system.power, system.interfaces) == (None, ())


def test_a_linux_machine_s_memory_and_networks() -> None:
    system = linux(meminfo="MemTotal:       8192 kB\nMemAvailable:   4096 kB\nHugePages_Total:       0\n")
    assert system is not None and (system.memory_bytes, system.available_bytes) == (8 << 20, 4 << 20)
    assert [each.medium for each in system.interfaces] == ["loopback", "Wi-Fi"]
    assert (system.chip, system.wired_limit_mb, system.power) == ("A chip", None, None)


def test_a_container_s_limit_counts_as_the_memory() -> None:
    system = linux(meminfo="MemTotal: 8192 kB\nMemAvailable: 4096 kB\n", limit="1048576\n")
    assert system is not None and system.memory_bytes == 1 << 20


def test_a_linux_that_tells_nothing_is_no_crash() -> None:
    assert linux(meminfo="") is None


@pytest.mark.parametrize(
    ("text", "pressure"),
    [
        ("some avg10=0.00 avg60=0.10 avg300=0.00 total=1\nfull avg10=0.00\n", "normal"),
        ("some avg10=12.50 avg60=0.10 avg300=0.00 total=1\n", "warning"),
        ("some avg10=61.00 avg60=0.10 avg300=0.00 total=1\n", "critical"),
        ("", None),
    ],
)
def test_stalls_for_memory_are_pressure(text: str, pressure: str | None) -> None:
    assert parse_stalls(text) == pressure
