"""What a report says of the machines."""

from __future__ import annotations

import pytest

from mlxctl.bench.environment import hosts, tool
from mlxctl.bench.records import Thermal
from mlxctl.bench.thermal import is_throttled, parse_pmset
from mlxctl.bench.triad import measure
from mlxctl.facts import NodeFacts

pytestmark = pytest.mark.unit

# As pmset's manual and support articles print it.
CALM = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
HOT = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2026-01-01 12:00:00 +0100 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 8
\tCPU_Speed_Limit \t= 71
"""
MAINS = "Now drawing from 'AC Power'\n"
BATTERY = (
    "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t87%; discharging; 4:12 remaining present: true\n"
)


def test_a_calm_mac_on_mains() -> None:
    assert parse_pmset(CALM, MAINS) == Thermal(source="pmset", power="AC Power")


def test_a_hot_mac_on_its_battery() -> None:
    thermal = parse_pmset(HOT, BATTERY)
    assert (thermal.cpu_speed_limit_percent, thermal.power, thermal.battery_percent) == (71, "Battery Power", 87)
    assert is_throttled(thermal)


@pytest.mark.parametrize(
    "thermal", [None, Thermal(source="pmset"), Thermal(source="pmset", cpu_speed_limit_percent=100)]
)
def test_a_machine_that_does_not_say_so_is_not_throttled(thermal: Thermal | None) -> None:
    assert not is_throttled(thermal)


def facts(name: str, host: str) -> NodeFacts:
    return NodeFacts(name, host, "Apple M4", "macOS", 16 << 30, 12 << 30, bandwidth_bytes_per_s=1.2e11)


def test_nodes_of_one_machine_are_one_host() -> None:
    (host,) = hosts([facts("a", "here"), facts("b", "here")], ["a", "b"], 9e10)
    assert host.nodes == ("a", "b")
    assert (host.bandwidth_bytes_per_s, host.bandwidth_source) == (9e10, "measured")
    assert host.load_1m is not None and "mlx" in host.versions


def test_of_another_machine_only_what_is_known_is_told() -> None:
    _, there = hosts([facts("a", "here"), facts("b", "there")], ["a"], 9e10)
    assert (there.bandwidth_bytes_per_s, there.bandwidth_source) == (1.2e11, "table")
    assert (there.load_1m, there.versions) == (None, {})


def test_the_triad_moves_bytes() -> None:
    assert measure(1 << 20) > 0


def test_the_tool_says_what_it_was_built_from() -> None:
    found = tool()
    assert found.version and (found.commit is None) == (found.dirty is None)
