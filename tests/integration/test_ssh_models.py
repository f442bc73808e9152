"""Nodes on other machines are filled with weights ahead of time, also where they have no way to the hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.canary import MODEL_DIR
from tests.hub_server import HubServer, Repo
from tests.integration.test_ssh_cluster import Cluster, cluster, filled_wheelhouse, kept_bed, stored

__all__ = ["cluster", "filled_wheelhouse", "kept_bed"]

pytestmark = pytest.mark.ssh


def filled(cluster: Cluster, action: str, model: str, wheelhouse: Path) -> list[dict[str, int]]:
    done = cluster.run("models", action, model, str(cluster.profile), "--wheelhouse", str(wheelhouse), "--json")
    assert done.code == 0, done.stderr
    nodes: list[dict[str, int]] = done.json()["nodes"]
    return nodes


def test_what_was_pushed_need_not_be_sent_when_the_cluster_comes_up(cluster: Cluster, filled_wheelhouse: Path) -> None:
    pushed = filled(cluster, "push", "canary", filled_wheelhouse)
    assert len(pushed) == 2 and all(node["sent_bytes"] > 1 << 20 for node in pushed)
    assert all(stored(host) for host in cluster.hosts)
    rows = cluster.run("models", "--nodes", str(cluster.profile), "--verify", "--json").json()["models"]
    held = {row["node"]: row["layers"] for row in rows if row["place"] == "store" and row["name"] == "canary"}
    assert sorted(held["h0"] + held["h1"]) == list(range(8))
    assert not any("/state/mlxctl/claim" in name for host in cluster.hosts for name in host.files())
    up = cluster.up()
    assert up.code == 0 and up.stderr.count("from before") == 2


def test_nodes_without_a_way_to_the_hub_are_filled_through_this_machine(
    cluster: Cluster, filled_wheelhouse: Path, tmp_path: Path
) -> None:
    with HubServer({"someone/canary": Repo(MODEL_DIR)}).serving() as hub:
        cluster.environment |= {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "",
        }
        pulled = filled(cluster, "pull", "someone/canary", filled_wheelhouse)
    assert all(node["sent_bytes"] > 1 << 20 and not node["fetched_bytes"] for node in pulled)
    shutil.rmtree(paths.hub_dir())
