"""Machines of a profile, and where their workers listen."""

from __future__ import annotations

import pytest

from mlxctl.launch.launch import Launch, machines_of
from mlxctl.launch.node_shell import NodeLook
from mlxctl.profile import Node, Profile

pytestmark = pytest.mark.unit


def launch_on(*nodes: Node) -> Launch:
    return Launch(Profile(name="x", nodes=nodes), "x", any_port=False)


def test_nodes_with_the_same_way_in_are_on_one_machine() -> None:
    nodes = [Node(name="a", host="h"), Node(name="b", host="h"), Node(name="c", host="h", user="u")]
    machines = machines_of(Profile(name="x", nodes=(*nodes, Node(name="d", host="localhost"))))
    assert [[node.name for node in machine.nodes] for machine in machines] == [["a", "b"], ["c"]]


def test_workers_of_a_local_cluster_listen_on_loopback_alone() -> None:
    launch = launch_on(Node(name="a", host="localhost"))
    assert launch.machines == [] and launch.address(launch.node("a")) == "127.0.0.1"


def test_a_worker_listens_where_its_node_was_reached_or_where_the_profile_says() -> None:
    launch = launch_on(Node(name="a", host="h"), Node(name="b", host="i", data_address="10.0.0.2"))
    for machine in launch.machines:
        machine.look = NodeLook("Linux", "boot", "/home", "10.9.9.9", None)
    assert [launch.address(node) for node in launch.profile.nodes] == ["10.9.9.9", "10.0.0.2"]
