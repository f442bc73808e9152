"""Links that were measured once are known to every plan of the same machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.errors import UsageError
from mlxctl.facts import NodeFacts
from mlxctl.launch.measured_links import MeasuredLink, keep_links, kept_links, with_measured_links
from mlxctl.launch.probe import known_nodes
from mlxctl.profile import Profile

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("own_home")]

AT = "2026-01-31T12:00:00.000Z"


def link(source: str, target: str, round_trip_s: float = 1e-3, bytes_per_s: float | None = 1e8) -> MeasuredLink:
    return MeasuredLink(source, target, round_trip_s, bytes_per_s, AT)


def profile(*nodes: dict[str, object]) -> Profile:
    return Profile.from_json(json.dumps({"name": "linked", "model": "canary", "nodes": nodes}))


THREE = profile(
    {"name": "a", "host": "10.0.0.1", "memory": "16GB"},
    {"name": "b", "host": "10.0.0.2", "memory": "16GB", "data_address": "192.168.0.2"},
    {"name": "c", "host": "10.0.0.3", "memory": "16GB"},
)


def test_a_node_has_the_slowest_link_that_leads_to_it() -> None:
    keep_links([link("10.0.0.1", "192.168.0.2", 2e-3, 9e7), link("10.0.0.3", "192.168.0.2", 4e-3, 1e8)])
    a, b, c = known_nodes(THREE)
    assert (b.link_latency_s, b.link_bytes_per_s, b.link_measured_at) == (2e-3, 9e7, AT)
    assert b.sources["link_bytes_per_s"] == b.sources["link_latency_s"] == "measured"
    assert a.link_latency_s is None and c.link_measured_at is None


def test_a_link_over_another_address_says_nothing() -> None:
    keep_links([link("10.0.0.1", "10.0.0.2")])
    assert all(node.link_latency_s is None for node in known_nodes(THREE))


def test_a_newer_measurement_takes_the_place_of_the_older() -> None:
    keep_links([link("a", "b", 1e-3), link("b", "a", 1e-3)])
    keep_links([replace(link("a", "b", 5e-3), bytes_per_s=None)])
    assert [(each.source, each.round_trip_s) for each in kept_links()] == [("a", 5e-3), ("b", 1e-3)]


def test_processes_of_one_machine_have_no_link() -> None:
    keep_links([link("localhost", "localhost")])
    facts = NodeFacts("a", "here", "chip", "Linux", 1 << 34, 1 << 33)
    local = profile({"name": "a", "host": "localhost"}, {"name": "b", "host": "localhost"})
    assert all(each.link_latency_s is None for each in with_measured_links(local, [facts, replace(facts, name="b")]))


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "other/1", "links": []}', "null"])
def test_a_file_that_is_not_ours_is_named(text: str) -> None:
    paths.make_home()
    Path(paths.links_file()).write_text(text)
    with pytest.raises(UsageError, match=r"links\.json holds no measured links"):
        known_nodes(THREE)


def test_plan_says_where_the_figures_come_from(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mlxctl.cli.main import app

    nodes = "".join(f"  - {{name: {node.name}, host: {node.host}, memory: 16GB}}\n" for node in THREE.nodes)
    (tmp_path / "p.yaml").write_text(f"name: linked\nnodes:\n{nodes}")
    keep_links(link(f"10.0.0.{i}", f"10.0.0.{j}", 4e-3, 5e7) for i in (1, 2, 3) for j in (1, 2, 3) if i != j)
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "p.yaml")])
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    assert "network 0.05 GB/s, 2 ms one way (measured by mlxctl bench 2026-01-31)" in text
