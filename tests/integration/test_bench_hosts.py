"""`mlxctl bench` on bare hosts over SSH: what a slow link does to a report, whose layers are made where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlxctl.bench.load import load_report
from mlxctl.bench.report import Report
from tests.commands import mlxctl
from tests.hosts import TestBed, bare_hosts
from tests.wheelhouses import filled_wheelhouse

__all__ = ["filled_wheelhouse"]

pytestmark = pytest.mark.ssh


class Hosts:
    """Two hosts and the benches of somebody who may log in to them."""

    def __init__(self, bed: TestBed, folder: Path, wheelhouse: Path) -> None:
        self.bed = bed
        self.provisioning = ("--wheelhouse", str(wheelhouse))
        self.profile = folder / "profile.yaml"
        self.profile.write_text(bed.profile("benched"))
        self.private = (str(self.profile), *self.provisioning, "--devices", "2")

    @contextmanager
    def cluster(self) -> Iterator[str]:
        """A running cluster on the hosts; its name."""
        up = mlxctl("up", str(self.profile), *self.provisioning, environment=self.bed.environment)
        try:
            assert up.code == 0, up.stderr
            yield "benched"
        finally:
            for host in self.bed.hosts:
                host.mend()
            assert mlxctl("down", "benched", environment=self.bed.environment).code == 0

    def bench(self, file: Path, *options: str) -> Report:
        finished = mlxctl("bench", *options, "-o", str(file), environment=self.bed.environment)
        assert finished.code == 0, finished.stderr
        return load_report(file)

    def stored(self) -> set[str]:
        """Files of weights that were sent to the hosts."""
        return {f"{host.name} {name}" for host in self.bed.hosts for name in host.files() if "/store/" in name}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, filled_wheelhouse: Path) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("bed")
    with bare_hosts(2, folder) as bed:
        bed.know()
        yield Hosts(bed, folder, filled_wheelhouse)


def limiters(report: Report) -> set[str | None]:
    return {each.limiter for each in report.against if each.metric == "tg_tps"}


def wire_share(report: Report) -> float:
    (found,) = report.breakdowns
    assert found.wire_s is not None
    return found.wire_s / found.wall_s


def test_a_slowed_link_shows_up_as_wire_time(hosts: Hosts, tmp_path: Path) -> None:
    with hosts.cluster() as name:
        options = ("--attach", name, "--tg", "16", "--depth", "16", "--runs", "3,3")
        fast = hosts.bench(tmp_path / "fast.json", *options)
        hosts.bed.hosts[1].slow(200_000)
        slow = hosts.bench(tmp_path / "slow.json", *options)
        hosts.bed.hosts[1].mend()
    assert limiters(fast) != {"the wire between the stages"}
    assert limiters(slow) == {"the wire between the stages"}
    assert wire_share(slow) > 2 * wire_share(fast)


def test_the_slowest_link_is_named(hosts: Hosts, tmp_path: Path) -> None:
    hosts.bed.hosts[1].slow(20_000_000)
    report = hosts.bench(tmp_path / "r.json", *hosts.private, "--pp", "16", "--runs", "1,1")
    hosts.bed.hosts[1].mend()
    rates = {(link.source, link.target): link.bytes_per_s or 0.0 for link in report.links}
    assert {link.type for link in report.links} == {"ethernet"}
    assert rates["h0", "h1"] < 2.5e6 < rates["h1", "h0"]
    assert any(each.text.startswith("The slowest link is h0 to h1") for each in report.verdicts)
    assert not hosts.bed.leftovers()


def test_a_link_that_was_measured_is_known_to_the_next_plan(hosts: Hosts) -> None:
    hosts.bed.hosts[1].slow(200_000_000)
    words = ("bench", "links", str(hosts.profile), "--quick", "--no-mlx-distributed", *hosts.provisioning)
    measured = mlxctl(*words, "-o", str(hosts.profile.with_suffix(".json")), environment=hosts.bed.environment)
    hosts.bed.hosts[1].mend()
    assert measured.code == 0, measured.stderr
    planned = mlxctl("plan", str(hosts.profile), "--json", environment=hosts.bed.environment)
    assert planned.code == 0, planned.stderr
    nodes = {node["name"]: node for node in planned.json()["nodes"]}
    assert nodes["h1"]["link_bytes_per_s"] < 25e6 < nodes["h0"]["link_bytes_per_s"]
    assert {node["sources"]["link_latency_s"] for node in nodes.values()} == {"measured"}


def test_each_node_makes_the_random_weights_of_its_own_layers_alone(hosts: Hosts, tmp_path: Path) -> None:
    stored = hosts.stored()
    random = ("--random-weights", "canary-fp32", "--context", "256")
    report = hosts.bench(tmp_path / "r.json", *hosts.private, *random, "--pp", "8", "--runs", "1,1")
    assert report.model.random_weights and report.results and not report.simulated_devices
    first, last = report.visits[-1].stages
    assert first.layers[1] == last.layers[0] > 0
    assert all((stage.peak_bytes or 0) < (report.model.weight_bytes or 0) for stage in (first, last))
    for host in hosts.bed.hosts:
        made = {name.rpartition("/")[2] for name in host.files() if "/random/" in name}
        assert "random.json" in made and not any(name.endswith(".safetensors") for name in made)
    assert hosts.stored() == stored and not hosts.bed.leftovers()
