"""`mlxctl bench links` with real processes: what it measures, what it keeps, what it leaves (nothing)."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlxctl.bench.links_report import LinksReport
from mlxctl.hardware import read_facts_file
from tests.commands import Finished, finish, mlxctl, start
from tests.conftest import our_processes
from tests.hosts import TestBed, bare_hosts
from tests.wheelhouses import filled_wheelhouse

__all__ = ["filled_wheelhouse"]

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one quick bench between two processes."""
    folder = tmp_path_factory.mktemp("links")
    files = [word for suffix in ("json", "html", "md", "csv", "yaml") for word in ("-o", str(folder / f"l.{suffix}"))]
    finished = mlxctl("bench", "links", "--quick", *files)
    assert finished.code == 0, finished.stderr
    (folder / "stdout").write_text(finished.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(outputs: Path) -> LinksReport:
    return LinksReport.model_validate_json((outputs / "l.json").read_text(encoding="utf-8"))


def test_both_directions_and_all_collectives_are_measured(report: LinksReport) -> None:
    ours = [each for each in report.pairs if each.transport == "grpc"]
    assert {(each.source, each.target) for each in ours} == {("worker-1", "worker-2"), ("worker-2", "worker-1")}
    assert all(each.bytes_per_s > 0 and each.round_trip.median > 0 for each in ours)
    names = {each.operation for each in report.collectives if each.transport == "grpc"}
    assert names >= {
        "barrier",
        "broadcast",
        "all_gather",
        *(f"all_reduce {op}" for op in ("sum", "mean", "max", "min")),
    }


def test_a_percentile_is_given_only_where_enough_round_trips_were_made(report: LinksReport) -> None:
    for each in report.pairs:
        assert (each.round_trip.p99 is not None) == (each.round_trip.n >= 500)


def test_mx_distributed_is_measured_or_it_is_said_why_not(report: LinksReport) -> None:
    for state in report.transports:
        measured = any(each.transport == state.name for each in report.pairs)
        assert measured == (state.reason is None)
    assert {state.name for state in report.transports} == {"grpc", "ring", "jaccl"}


def test_every_format_is_written_and_says_that_there_was_one_machine(outputs: Path) -> None:
    for name in ("l.html", "l.md", "stdout"):
        assert "processes of one machine" in (outputs / name).read_text(encoding="utf-8")
    assert (outputs / "l.csv").read_text(encoding="utf-8").count("\n") > 10
    assert [facts.name for facts in read_facts_file(outputs / "l.yaml")] == ["worker-1", "worker-2"]
    assert "http" not in (outputs / "l.html").read_text(encoding="utf-8")


def test_a_report_can_be_shown_again_in_another_format(outputs: Path, tmp_path: Path) -> None:
    shown = mlxctl("bench", "show", str(outputs / "l.json"), "-o", str(tmp_path / "again.md"))
    assert shown.code == 0, shown.stderr
    assert (tmp_path / "again.md").read_text() == (outputs / "l.md").read_text()


def ranks(home: Path, count: int) -> list[psutil.Process]:
    """The running ranks, once `count` of them are there."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        found = [int(line.split()[1].rstrip(":")) for line in our_processes(home) if " rank --name" in line]
        if len(found) == count:
            return [psutil.Process(pid) for pid in found]
        time.sleep(0.05)
    raise AssertionError("the ranks did not start")


def until_measured(process: Any) -> None:
    """Until the first message is timed, and a little longer."""
    while not process.stderr.readline().startswith("gRPC"):
        pass
    time.sleep(2)


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    process = start("bench", "links", "-o", str(tmp_path / "l.json"))
    until_measured(process)
    process.send_signal(signal.SIGINT)
    finished = finish(process)
    assert finished.code == 130, finished.stderr
    kept = json.loads((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert kept["how_it_ended"] == "interrupted" and kept["pairs"]


def test_a_killed_rank_ends_the_bench_with_its_name_and_keeps_what_was_measured(tmp_path: Path, home: Path) -> None:
    process = start("bench", "links", "-o", str(tmp_path / "l.json"))
    until_measured(process)
    ranks(home, 2)[0].kill()
    finished = finish(process)
    assert finished.code == 1 and "Traceback" not in finished.stderr
    assert "node worker-" in finished.stderr
    assert json.loads((tmp_path / "l.json").read_text(encoding="utf-8"))["how_it_ended"] == "failed"


def test_a_killed_bench_loses_nothing_and_down_removes_what_it_left(tmp_path: Path, home: Path) -> None:
    process = start("bench", "links", "-o", str(tmp_path / "l.json"))
    until_measured(process)
    process.kill()
    finish(process)
    shown = mlxctl("bench", "show", str(tmp_path / "l.jsonl"), "-o", str(tmp_path / "again.json"))
    assert shown.code == 0, shown.stderr
    kept = LinksReport.model_validate_json((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert kept.how_it_ended == "failed" and kept.pairs and kept.nodes
    left = list((home / "clusters").glob("private-*"))
    down = mlxctl("down", "--all")
    assert left and down.code == 0 and "private clusters" in down.stderr
    assert not list((home / "clusters").glob("private-*"))


def test_a_file_that_cannot_be_written_is_refused_before_anything_starts() -> None:
    finished = mlxctl("bench", "links", "-o", "links.pdf")
    assert finished.code == 2 and "no such format" in finished.stderr


def test_a_profile_of_one_node_has_no_links() -> None:
    finished = mlxctl("bench", "links", "1xm4", "--local")
    assert finished.code == 2 and "no link to measure" in finished.stderr


class Hosts:
    """Two hosts and the commands of somebody who may log in to them."""

    def __init__(self, bed: TestBed, folder: Path, wheelhouse: Path) -> None:
        self.bed = bed
        profile = folder / "profile.yaml"
        profile.write_text(bed.profile("linked"))
        self._words = ("bench", "links", str(profile), "--quick", "--wheelhouse", str(wheelhouse))

    def run(self, *options: str) -> Finished:
        return mlxctl(*self._words, *options, environment=self.bed.environment)

    def start(self, *options: str) -> subprocess.Popen[str]:
        return start(*self._words, *options, environment=self.bed.environment)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, filled_wheelhouse: Path) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("bed")
    with bare_hosts(2, folder) as bed:
        bed.know()
        yield Hosts(bed, folder, filled_wheelhouse)


@pytest.mark.ssh
def test_a_slow_link_between_hosts_is_measured_and_nothing_stays(hosts: Hosts, tmp_path: Path) -> None:
    hosts.bed.hosts[1].slow(200_000_000)
    finished = hosts.run("-o", str(tmp_path / "l.yaml"))
    hosts.bed.hosts[1].mend()
    assert finished.code == 0, finished.stderr
    said = " ".join(finished.stdout.split())  # lines are folded
    assert "no network" not in said
    assert "its ports are open to the network without authentication" in said
    fast, slow = read_facts_file(tmp_path / "l.yaml")
    assert slow.link_bytes_per_s is not None and fast.link_bytes_per_s is not None
    assert slow.link_bytes_per_s < 25e6 < fast.link_bytes_per_s
    planned = mlxctl("plan", "--simulate", str(tmp_path / "l.yaml"))
    assert planned.code == 0, planned.stderr
    assert not hosts.bed.leftovers()


@pytest.mark.ssh
def test_mx_distributed_is_measured_between_hosts_if_asked_for(hosts: Hosts, tmp_path: Path) -> None:
    finished = hosts.run("--mlx-distributed", "-o", str(tmp_path / "l.json"))
    assert finished.code == 0, finished.stderr
    report = LinksReport.model_validate_json((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert {each.transport for each in report.pairs} == {"grpc", "ring"}
    assert not report.one_host and not hosts.bed.leftovers()


@pytest.mark.ssh
def test_ranks_on_hosts_end_with_a_launcher_that_is_killed(hosts: Hosts, tmp_path: Path) -> None:
    process = hosts.start("-o", str(tmp_path / "l.json"))
    until_measured(process)
    process.kill()
    finish(process)
    until_s = time.monotonic() + 10
    while hosts.bed.leftovers() and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not hosts.bed.leftovers()
