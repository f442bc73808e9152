"""What this machine says of itself; Macs by recorded output."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import pytest

from mlxctl.errors import LaunchError
from mlxctl.launch import probe, probe_macos, probe_nodes
from mlxctl.profile import Node, load_profile
from tests.plans import GIB, a_profile

pytestmark = pytest.mark.unit

SYSCTL = """hw.memsize: 68719476736
machdep.cpu.brand_string: Apple M2 Max
iogpu.wired_limit_mb: 0
"""
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              100000.
Pages active:                            900000.
Pages inactive:                           50000.
Pages speculative:                         3000.
Pages throttled:                              0.
Pages wired down:                        200000.
Pages purgeable:                           7000.
"Translation faults":                 987654321.
Pages copy-on-write:                   12345678.
"""
DISPLAYS = """Graphics/Displays:

    Apple M2 Max:

      Chipset Model: Apple M2 Max
      Type: GPU
      Bus: Built-In
      Total Number of Cores: 38
      Vendor: Apple (0x106b)
      Metal Support: Metal 3
"""


def test_local_nodes_share_this_machine() -> None:
    first, second = probe.probe_local(load_profile(None, environment={}))
    assert (first.name, second.name) == ("worker-1", "worker-2")
    assert first.host_id == second.host_id
    assert 0 < first.available_bytes <= first.memory_bytes <= psutil.virtual_memory().total


def test_a_profile_without_local_nodes_probes_nothing() -> None:
    assert probe.probe_local(a_profile(["mini1"])) == ()


def test_another_machine_is_taken_at_the_profile_s_word() -> None:
    profile = a_profile(["mini1"])
    node = Node(name="mini1", host="mini1.local", memory_bytes=16 * GIB)
    (facts,) = probe.known_nodes(profile.model_copy(update={"nodes": (node,)}))
    assert facts.memory_bytes == 16 * GIB
    assert facts.sources == {"memory_bytes": "profile", "available_bytes": "assumed"}


def test_another_machine_of_unknown_memory_that_cannot_be_asked_is_named() -> None:
    profile = a_profile(["mini1"])
    node = Node(name="mini1", host="0.0.0.0", ssh_port=1)
    with pytest.raises(LaunchError, match=r"cannot reach 0\.0\.0\.0 port 1: Connection refused") as caught:
        probe.known_nodes(profile.model_copy(update={"nodes": (node,)}))
    assert caught.value.node == "mini1"
    assert "--simulate" in str(caught.value.hint)


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_a_container_s_limit_counts_as_the_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 4}\n")
    facts = probe.probe_linux("box", cgroup=tmp_path)
    assert (facts.memory_bytes, facts.available_bytes) == (GIB, GIB * 3 // 4)


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_is_not_a_limit(text: str, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert probe.cgroup_bytes(tmp_path, ("memory.max", "not there")) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [("processor\t: 0\nmodel name\t: AMD EPYC\n", "AMD EPYC"), ("processor : 0\n", platform.machine())],
)
def test_the_processor_is_named(text: str, name: str) -> None:
    assert probe.cpu_name(text) == name


def test_a_mac_s_figures_are_read_from_its_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = {"sysctl": SYSCTL, "vm_stat": VM_STAT, "system_profiler": DISPLAYS}
    monkeypatch.setattr(probe_macos, "_output", lambda command, *_: recorded[command])
    facts = probe_macos.probe("studio")
    assert (facts.chip, facts.memory_bytes) == ("Apple M2 Max", 64 * GIB)
    assert facts.available_bytes == 160_000 * 16384
    assert (facts.wired_limit_bytes, facts.sources["wired_limit_bytes"]) == (48 * GIB, "assumed")
    assert (facts.bandwidth_bytes_per_s, facts.sources["bandwidth_bytes_per_s"]) == (400e9, "table")
    assert facts.flops == pytest.approx(38 * 0.36e12)


def test_a_wired_limit_that_was_set_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = {"sysctl": SYSCTL.replace("wired_limit_mb: 0", "wired_limit_mb: 57344"), "vm_stat": VM_STAT}
    monkeypatch.setattr(probe_macos, "_output", lambda command, *_: recorded.get(command, ""))
    facts = probe_macos.probe("studio")
    assert (facts.wired_limit_bytes, facts.sources["wired_limit_bytes"]) == (56 * GIB, "measured")


def test_a_mac_that_no_table_knows_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = {"sysctl": SYSCTL.replace("M2 Max", "M9 Mega"), "vm_stat": VM_STAT}
    monkeypatch.setattr(probe_macos, "_output", lambda command, *_: recorded.get(command, ""))
    facts = probe_macos.probe("studio")
    assert (facts.bandwidth_bytes_per_s, facts.flops) == (None, None)


def test_a_linux_machine_elsewhere_is_known_by_its_files() -> None:
    meminfo = "MemTotal:       16384000 kB\nMemFree:  1 kB\nMemAvailable:   8192000 kB\nHugePages_Total:       0\n"
    facts = probe_nodes.parse_linux(meminfo, "model name : AMD EPYC\n")
    assert (facts.memory_bytes, facts.available_bytes, facts.chip) == (16384000 << 10, 8192000 << 10, "AMD EPYC")


def test_a_machine_that_tells_nothing_of_its_memory_is_refused() -> None:
    with pytest.raises(LaunchError, match="how much memory"):
        probe_nodes.parse_linux("", "")
    with pytest.raises(LaunchError, match="how much memory"):
        probe_macos.parse("x", "", "", "")
