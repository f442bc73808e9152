"""Taking down what hardly is there any more."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.errors import LaunchError
from mlxctl.launch.processes import ProcessId, boot_id
from mlxctl.launch.state import ClusterState, WorkerRecord, living, owner, read_state, write_state
from mlxctl.launch.teardown import take_down
from mlxctl.profile import Node, Profile

pytestmark = pytest.mark.unit

GONE = ProcessId(os.getpid(), -1.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def state() -> ClusterState:
    """Of a cluster whose processes are all gone."""
    found = ClusterState(
        name="x",
        phase="ready",
        boot_id=boot_id(),
        coordinator=GONE,
        api_url="http://127.0.0.1:8100",
        model="canary",
        profile_hash="p",
        plan_hash="q",
        started_at=1.5,
        owner=owner(),
        control_socket="/run/x.sock",
    )
    write_state(found)
    return found


def test_a_cluster_that_nobody_knows_is_not_taken_down() -> None:
    assert not take_down("x", 0.0).known


def test_a_state_without_a_profile_is_cleared(state: ClusterState) -> None:
    report = take_down("x", 0.0)
    assert report.known and not report.ran and report.nodes == ()
    assert read_state("x") is None


def test_a_node_that_cannot_be_reached_is_named_and_kept_with_its_workers(state: ClusterState) -> None:
    node = Node(name="mini1", host="0.0.0.0", ssh_port=1)
    paths.profile_file("x").write_text(Profile(name="x", nodes=(node,)).to_json())
    there = WorkerRecord("mini1", ProcessId(7, 8.0), "10.0.0.1:50100", "0.0.0.0", boot_id())
    here = WorkerRecord("a", GONE, "127.0.0.1:50100")
    write_state(replace(state, workers=(there, here)))
    (report,) = take_down("x", 0.0).unclean
    assert report.node == "mini1" and isinstance(report.problem, LaunchError)
    kept = read_state("x")
    assert kept is not None and kept.unreached_nodes == ("mini1",) and kept.workers == (there,)


def test_a_nodes_process_is_not_looked_for_here(state: ClusterState) -> None:
    with_our_pid = WorkerRecord("mini1", ProcessId(os.getpid(), 8.0), "", "mini1.local", boot_id())
    assert living(replace(state, workers=(with_our_pid,))) == ()
