"""What doctor makes of facts, row by row: each fails or warns once, with what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlxctl.launch.doctor import judge
from mlxctl.launch.doctor.findings import Finding, Notes
from mlxctl.launch.doctor.system import Interface, Power, System
from mlxctl.plan.memory import Pool
from mlxctl.profile import Node

pytestmark = pytest.mark.unit

GIB = 1 << 30
MINI = Node(name="mini", host="mini.local", user="me")
HERE = Node(name="here", host="localhost")
AWAKE = Power(sleep_minutes=0, kept_awake_by="", low_power=False, on_battery=False)
MAC = System(True, "Apple M4", 16 * GIB, 10 * GIB, "normal", 0, AWAKE, ())


def noted(judged: Callable[[Notes], None]) -> Finding:
    notes = Notes("mini")
    judged(notes)
    (finding,) = notes.findings
    return finding


def test_a_command_is_shown_as_it_is_typed_here() -> None:
    assert judge.typed(MINI, "sysctl a=1", sudo=True) == "ssh -t me@mini.local 'sudo sysctl a=1'"
    assert judge.typed(Node(name="x", host="x", ssh_port=2222), "true") == "ssh -p 2222 x true"
    assert judge.typed(HERE, "sysctl a=1", sudo=True) == "sudo sysctl a=1"


@pytest.mark.parametrize(
    ("free_bytes", "is_installed", "level"),
    [(100 << 20, False, "fail"), (100 << 20, True, "warn"), (50 * GIB, False, "ok")],
)
def test_disk(free_bytes: int, is_installed: bool, level: str) -> None:
    assert noted(lambda n: judge.judge_disk(n, free_bytes, "/x", is_installed=is_installed)).level == level


@pytest.mark.parametrize(
    ("memory", "pool_bytes", "level"),
    [(32 * GIB, 0, "fail"), (None, 10 << 20, "fail"), (12 * GIB, 12 * GIB, "warn"), (None, 10 * GIB, "ok")],
)
def test_memory(memory: int | None, pool_bytes: int, level: str) -> None:
    node = MINI.model_copy(update={"memory_bytes": memory})
    found = noted(lambda n: judge.judge_memory(n, node, MAC, Pool(pool_bytes, ("mini",), "what is free now")))
    assert found.level == level and (level == "ok") == (found.mend is None)


@pytest.mark.parametrize(
    ("pressure", "level"), [("critical", "fail"), ("warning", "warn"), ("normal", "ok"), (None, "skip")]
)
def test_memory_pressure(pressure: str | None, level: str) -> None:
    system = replace(MAC, pressure=pressure)  # type: ignore[arg-type]
    assert noted(lambda n: judge.judge_pressure(n, MINI, system)).level == level


def test_a_gpu_limit_below_what_the_profile_gives_names_the_sysctl_that_raises_it() -> None:
    node = MINI.model_copy(update={"memory_bytes": 12 * GIB})
    found = noted(lambda n: judge.judge_wired_limit(n, node, MAC))
    assert found.level == "fail" and found.detail.startswith("10.7 GiB of 16.0 GiB (macOS's own choice)")
    assert str(found.mend).startswith("ssh -t me@mini.local 'sudo sysctl iogpu.wired_limit_mb=12288'")


def test_a_gpu_limit_of_macos_s_own_choice_tells_how_to_raise_it() -> None:
    found = noted(lambda n: judge.judge_wired_limit(n, MINI, MAC))
    assert found.level == "ok" and "sudo sysctl iogpu.wired_limit_mb=12288" in found.detail


def test_a_gpu_limit_that_leaves_macos_nothing_is_warned_about() -> None:
    found = noted(lambda n: judge.judge_wired_limit(n, MINI, replace(MAC, wired_limit_mb=15872)))
    assert found.level == "warn" and "iogpu.wired_limit_mb=12288" in str(found.mend)


def test_linux_has_no_gpu_limit_and_no_sleep_settings() -> None:
    linux = replace(MAC, is_mac=False, wired_limit_mb=None, power=None)
    assert noted(lambda n: judge.judge_wired_limit(n, MINI, linux)).level == "skip"
    assert noted(lambda n: judge.judge_sleep(n, MINI, linux)).level == "skip"


@pytest.mark.parametrize(
    ("power", "level", "mend"),
    [
        (replace(AWAKE, sleep_minutes=15), "warn", "pmset -c sleep 0"),
        (replace(AWAKE, low_power=True), "warn", "pmset -a lowpowermode 0"),
        (replace(AWAKE, on_battery=True), "warn", "plug it in"),
        (replace(AWAKE, sleep_minutes=15, kept_awake_by="caffeinate"), "ok", ""),
        (AWAKE, "ok", ""),
    ],
)
def test_sleep(power: Power, level: str, mend: str) -> None:
    found = noted(lambda n: judge.judge_sleep(n, MINI, replace(MAC, power=power)))
    assert found.level == level and mend in (found.mend or "")


@pytest.mark.parametrize(
    ("skew_s", "level", "detail"),
    [(0.02, "ok", "within 0.1 s of"), (-30.0, "warn", "30.0 s behind"), (90_000.0, "fail", "90000.0 s ahead")],
)
def test_clock(skew_s: float, level: str, detail: str) -> None:
    found = noted(lambda n: judge.judge_clock(n, MINI, "darwin", skew_s))
    assert found.level == level and found.detail.startswith(detail)
    assert level == "ok" or "sntp -sS" in str(found.mend)


def test_a_taken_port_is_named_with_how_to_see_by_whom() -> None:
    answer = {"port": None, "taken": [50100]}
    found = noted(lambda n: judge.judge_ports(n, MINI, "darwin", answer, "10.0.0.2", 50100, set()))
    assert found.level == "fail" and "sudo lsof -nP -iTCP:50100 -sTCP:LISTEN" in str(found.mend)


def test_a_port_of_this_cluster_s_own_worker_is_well_taken() -> None:
    answer = {"port": None, "taken": [50100]}
    assert noted(lambda n: judge.judge_ports(n, MINI, "darwin", answer, "10.0.0.2", 50100, {50100})).level == "ok"


def test_macos_s_local_network_privacy_is_named() -> None:
    why, mend = judge.why_unreached("darwin", "10.0.0.2", 50100, 65, "No route to host")
    assert "Local Network privacy" in why and "System Settings > Privacy & Security > Local Network" in mend


def test_a_silent_port_is_probably_a_firewall_s() -> None:
    why, mend = judge.why_unreached("linux", "10.0.0.2", 50100, 110, "timed out")
    assert why == "no answer from 10.0.0.2 port 50100" and "firewall" in mend


def test_wi_fi_at_either_end_is_warned_about() -> None:
    wifi, cable = Interface("en0", ("10.0.0.2",), "Wi-Fi"), Interface("bridge0", ("10.0.0.3",), "Thunderbolt bridge")
    found = noted(lambda n: judge.judge_link(n, "2 ms", [("mini", wifi), ("studio", cable), ("x", None)]))
    assert found.level == "warn" and "Wi-Fi (en0 of mini)" in found.detail and "data_address" in str(found.mend)
    assert noted(lambda n: judge.judge_link(n, "0.2 ms", [("studio", cable)])).level == "ok"


@pytest.mark.parametrize(("bytes_per_s", "shown"), [(117.5e6, "940 Mbit/s"), (5e9, "40.0 Gbit/s")])
def test_bandwidth_is_told_as_networks_are_called(bytes_per_s: float, shown: str) -> None:
    assert judge.rate(bytes_per_s) == shown
