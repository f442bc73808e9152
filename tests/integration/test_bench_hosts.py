"""`mlxctl bench` on bare hosts over SSH: what a slow link does to a report, whose layers are made where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxctl.bench.load import load_report
from mlxctl.bench.report import Report
from tests.commands import finish, start
from tests.hosts import TestBed, bare_hosts
from tests.wheelhouses import filled_wheelhouse

__all__ = ["filled_wheelhouse"]

pytestmark = pytest.mark.ssh


class Hosts:
    """Two hosts and the benches of somebody who may log in to them."""

    def __init__(self, bed: TestBed, folder: Path, wheelhouse: Path) -> None:
        self.bed = bed
        profile = folder / "profile.yaml"
        profile.write_text(bed.profile("benched"))
        self._words = ("bench", str(profile), "--wheelhouse", str(wheelhouse), "--devices", "2")

    def bench(self, file: Path, *options: str) -> Report:
        finished = finish(start(*self._words, *options, "-o", str(file), environment=self.bed.environment))
        assert finished.code == 0, finished.stderr
        return load_report(file)

    def traces(self) -> set[str]:
        """Of ours on the hosts, but for the kernels that MLX compiles and keeps where it runs on a CPU."""
        return {trace for host in self.bed.hosts for trace in host.traces() if not trace.startswith("/tmp/mlx/")}


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
    fast = hosts.bench(tmp_path / "fast.json", "--tg", "16", "--runs", "3,3")
    assert limiters(fast) != {"the wire between the stages"}
    hosts.bed.hosts[1].slow(500_000)
    slow = hosts.bench(tmp_path / "slow.json", "--tg", "16", "--runs", "3,3")
    hosts.bed.hosts[1].mend()
    assert limiters(slow) == {"the wire between the stages"}
    assert wire_share(slow) > 0.5 > wire_share(fast)
    assert not hosts.traces()


def test_each_node_makes_the_random_weights_of_its_own_layers_alone(hosts: Hosts, tmp_path: Path) -> None:
    random = ("--random-weights", "canary-fp32", "--context", "256")
    report = hosts.bench(tmp_path / "r.json", *random, "--pp", "8", "--runs", "1,1")
    assert report.model.random_weights and report.results and not report.simulated_devices
    first, last = report.visits[-1].stages
    assert first.layers[1] == last.layers[0] > 0
    assert all((stage.peak_bytes or 0) < (report.model.weight_bytes or 0) for stage in (first, last))
    for host in hosts.bed.hosts:
        made = {name.rpartition("/")[2] for name in host.files() if "/random/" in name}
        assert "random.json" in made and not any(name.endswith(".safetensors") for name in made)
        assert not any("/store/" in name for name in host.files())
    assert not hosts.traces()
