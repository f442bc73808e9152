"""Doctor for a profile of this machine alone, and what only the coordinator's machine has."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mlxctl.cli.main import run
from mlxctl.launch.doctor import CHECKS, HERE, Finding, Report, diagnose
from mlxctl.launch.processes import ProcessId, boot_id, free_ports
from mlxctl.launch.state import ClusterState, read_state, remove_state, write_state
from mlxctl.paths import make_cluster_dir, profile_file
from mlxctl.profile import Api, Node, Profile

pytestmark = pytest.mark.integration


def local(**fields: Any) -> Profile:
    return Profile(name="here", nodes=(Node(name="a", host="localhost"),), **fields)


async def report_of(profile: Profile, *, fix: bool = False) -> Report:
    return await diagnose(profile, lambda _: None, fix=fix)


def finding(report: Report, check: str, node: str) -> Finding:
    (found,) = (each for each in report.findings if (each.node, each.check) == (node, check))
    return found


def a_dead_cluster(name: str) -> None:
    make_cluster_dir(name)
    profile_file(name).write_text(local().to_json())
    nobody = ProcessId(2**22, 1.0)
    write_state(ClusterState(name, "ready", boot_id(), nobody, "http://127.0.0.1:1", "canary", "", "", 1.0, "me", ""))


async def test_every_check_of_every_node_has_one_finding() -> None:
    report = await report_of(local())
    assert [each.check for each in report.findings if each.node == "a"] == list(CHECKS)
    assert report.is_ok


async def test_the_api_s_port_is_looked_at_where_the_profile_asks_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        profile = local(api=Api(port=taken.getsockname()[1]))
        found = finding(await report_of(profile), "ports", HERE)
    assert found.level == "fail" and "lsof" in str(found.mend)


async def test_a_worker_s_port_that_is_taken_fails_where_the_profile_asks_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        report = await report_of(local(grpc_port=taken.getsockname()[1]))
    assert finding(report, "ports", "a").level == "fail" and finding(report, "reach", "a").level == "ok"


async def test_clusters_whose_coordinator_died_are_named_and_fix_removes_them() -> None:
    a_dead_cluster("old")
    try:
        found = finding(await report_of(local()), "leftovers", HERE)
        assert (found.level, found.mend) == ("fail", "mlxctl doctor --fix")
        assert read_state("old") is not None  # without --fix nothing is touched
        assert finding(await report_of(local(), fix=True), "leftovers", HERE).detail == "removed: old"
        assert read_state("old") is None
    finally:
        remove_state("old")


def test_the_command_prints_a_table_on_stdout_and_progress_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    shown = capsys.readouterr()
    assert "nothing stands in the way of mlxctl up" in shown.out and "worker-2" in shown.out
    assert "looking at this machine" in shown.err and "looking" not in shown.out


def test_the_json_is_versioned_and_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mlxctl.doctor/1"
    assert set(document) == {"schema", "ok", "profile", "nodes", "findings", "links", "took_s"}
    assert set(document["findings"][0]) == {"node", "check", "level", "detail", "mend"}


def test_a_profile_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


async def test_a_node_s_own_port_is_not_taken_by_another_node_s_probe() -> None:
    (port,) = free_ports("127.0.0.1", 1)
    nodes = tuple(Node(name=name, host="localhost") for name in "ab")
    report = await report_of(Profile(name="here", nodes=nodes, grpc_port=port))
    assert finding(report, "ports", "b").detail in (f"{port + 1} at 127.0.0.1", f"{port + 1} is taken")
