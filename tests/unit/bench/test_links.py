"""What `bench links` measures in which order, and what its report says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlxctl.bench.link_probe import kept_of_report
from mlxctl.bench.links import QUICK, STANDARD, CollectiveOrder, PairOrder, orders
from mlxctl.bench.links_html import to_html
from mlxctl.bench.links_report import (
    SCHEMA_FILE,
    CollectiveResult,
    LinkNode,
    LinksReport,
    PairResult,
    TransportState,
    bus_bytes_per_s,
    parse_links,
    schema_text,
    slowest_pairs,
    verdicts,
)
from mlxctl.bench.links_tables import duration, matrix, size, to_csv, to_facts, to_markdown
from mlxctl.bench.records import Tool
from mlxctl.bench.statistics import summarise
from mlxctl.errors import UsageError
from mlxctl.hardware import read_facts_file
from mlxctl.profile import Profile

pytestmark = pytest.mark.unit

MIB = 1 << 20


def pair(source: str, target: str, size_bytes: int, rtt_s: float, bytes_per_s: float) -> PairResult:
    return PairResult(
        transport="grpc",
        source=source,
        target=target,
        size_bytes=size_bytes,
        round_trip=summarise([rtt_s] * 3),
        bytes_per_s=bytes_per_s,
        rtt_s=(rtt_s,) * 3,
        message_s=(size_bytes / bytes_per_s,),
    )


def node(name: str, host: str) -> LinkNode:
    return LinkNode(
        name=name, host=host, address="10.0.0.1", os="macOS", chip="Apple M4", memory_bytes=16 << 30,
        available_bytes=12 << 30,
    )  # fmt: skip


def report(hosts: tuple[str, ...] = ("ha", "hb", "hc"), **fields: Any) -> LinksReport:
    """Three nodes; what goes to b is slow."""
    nodes = tuple(node(name, host) for name, host in zip("abc", hosts, strict=True))
    pairs = []
    for source in "abc":
        for target in "abc".replace(source, ""):
            slow = target == "b"
            pairs.append(pair(source, target, 64, 2e-3 if slow else 4e-4, 1e5))
            pairs.append(pair(source, target, 4 * MIB, 1.0, 1e7 if slow else 1e8))
    collective = CollectiveResult(
        transport="grpc", operation="all_reduce sum", size_bytes=MIB, ranks=3, time=summarise([0.01] * 3),
        bus_bytes_per_s=1e8, time_s=(0.01,) * 3,
    )  # fmt: skip
    found = LinksReport(
        **{
            "id": "1",
            "title": "links of test",
            "started_at": "2026-01-31T12:00:00Z",
            "how_it_ended": "complete",
            "suite": "quick",
            "tool": Tool(version="0", python="3"),
            "argv": ("mlxctl",),
            "hosts": (),
            "nodes": nodes,
            "transports": (
                TransportState(name="grpc", title="gRPC"),
                TransportState(name="jaccl", title="mx.distributed jaccl", reason="no such <thing>"),
            ),
            "pairs": tuple(pairs),
            "collectives": (collective,),
            **fields,
        }
    )
    return found.model_copy(update={"verdicts": verdicts(found)})


def test_every_ordered_pair_is_measured_at_every_size() -> None:
    found = [each for each in orders(STANDARD, "grpc", 4) if isinstance(each, PairOrder)]
    assert len({(each.source, each.target, each.size_bytes) for each in found}) == 12 * len(STANDARD.sizes_bytes)
    assert (STANDARD.sizes_bytes[0], STANDARD.sizes_bytes[-1]) == (64, 128 << 20)


def test_in_a_ring_only_neighbours_are_pairs() -> None:
    found = {(each.source, each.target) for each in orders(QUICK, "ring", 4) if isinstance(each, PairOrder)}
    assert len(found) == 8 and (0, 2) not in found and (3, 0) in found


def test_many_ranks_gather_no_more_than_their_memory_holds() -> None:
    gathers = [each for each in orders(STANDARD, "grpc", 8) if isinstance(each, CollectiveOrder)]
    assert max(each.size_bytes for each in gathers if each.operation == "all_gather") == 64 * MIB
    assert max(each.size_bytes for each in gathers if each.operation == "broadcast") == 128 * MIB


def test_mx_distributed_is_asked_only_for_what_it_has() -> None:
    ring = {each.operation for each in orders(QUICK, "ring", 2) if isinstance(each, CollectiveOrder)}
    ours = {each.operation for each in orders(QUICK, "grpc", 2) if isinstance(each, CollectiveOrder)}
    assert ring == {"all_gather", "all_reduce sum", "all_reduce max", "all_reduce min"}
    assert ours == ring | {"barrier", "broadcast", "all_reduce mean"}


def test_the_planner_keeps_links_between_machines_by_the_addresses_that_nodes_have_in_a_profile() -> None:
    nodes = [{"name": "a", "host": "ha"}, {"name": "b", "host": "hb", "data_address": "10.1.0.2"}]
    profile = Profile.from_json(json.dumps({"name": "p", "nodes": [*nodes, {"name": "c", "host": "ha"}]}))
    kept = {(each.source, each.target): each for each in kept_of_report(report(("ha", "hb", "ha")), profile)}
    assert set(kept) == {("ha", "10.1.0.2"), ("10.1.0.2", "ha")}
    assert (kept["ha", "10.1.0.2"].round_trip_s, kept["ha", "10.1.0.2"].bytes_per_s) == (2e-3, 1e7)


def test_bus_bandwidth_is_that_of_nccl_tests() -> None:
    assert bus_bytes_per_s("all_reduce sum", 100, 4, 1.0) == 150
    assert bus_bytes_per_s("all_gather", 100, 4, 1.0) == 300
    assert bus_bytes_per_s("broadcast", 100, 4, 1.0) == 100
    assert bus_bytes_per_s("barrier", 0, 4, 1.0) is None
    assert bus_bytes_per_s("all_reduce sum", 100, 1, 1.0) is None


def test_a_slow_link_is_named() -> None:
    text = " ".join(sentence.text for sentence in report().verdicts)
    assert "least from a to b" in text and "a to b is 10.0 times slower than the fastest" in text


def test_of_many_pairs_the_slowest_is_shown() -> None:
    assert {(each.source, each.target) for each in slowest_pairs(report())} == {("a", "b")}


def test_processes_of_one_machine_are_called_so() -> None:
    one = report(hosts=("h", "h", "h"))
    assert "no network" in one.verdicts[0].text and "processes of one machine" in to_html(one)
    assert "no network" not in to_markdown(report())


def test_what_is_not_available_is_said_with_its_reason() -> None:
    assert "mx.distributed jaccl is not measured: no such <thing>" in to_markdown(report())
    assert "no such &lt;thing&gt;" in to_html(report())


def test_an_interrupted_bench_says_no_bandwidth_that_it_has_not_measured() -> None:
    whole = report()
    small = tuple(each for each in whole.pairs if each.size_bytes < MIB)
    early = report(pairs=small, how_it_ended="interrupted")
    assert "interrupted" in early.verdicts[0].text and not any("MB/s" in each.text for each in early.verdicts)
    assert matrix(early, "grpc")[0] == ["a", "·", "2.00 ms", "400 µs"]
    assert "link_mb_per_s:" not in to_facts(early)


def test_the_matrix_has_a_row_per_source_and_a_column_per_target() -> None:
    assert matrix(report(), "grpc")[1] == ["b", "400 µs, 100 MB/s", "·", "400 µs, 100 MB/s"]


def test_the_csv_has_a_row_per_measurement() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report()))))
    assert len(rows) == 13
    assert (rows[0]["source"], rows[0]["target"], float(rows[0]["p50_s"])) == ("a", "b", 2e-3)


def test_the_shipped_schema_is_that_of_the_reports() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()
    jsonschema.validate(json.loads(report().to_json()), json.loads(schema_text()))


def test_a_damaged_report_is_refused_with_the_place() -> None:
    document = json.loads(report().to_json()) | {"suite": 1}
    with pytest.raises(UsageError, match="suite"):
        parse_links(document, "links.json")
    assert parse_links({"schema": "mlxctl.bench/1"}, "bench.json") is None


def test_a_report_comes_back_from_its_json() -> None:
    assert LinksReport.model_validate_json(report().to_json()) == report()


def test_the_planner_reads_each_nodes_slowest_link(tmp_path: Path) -> None:
    file = tmp_path / "links.yaml"
    file.write_text(to_facts(report()))
    a, b, _ = read_facts_file(file)
    assert (a.link_bytes_per_s, a.link_latency_s) == (1e8, 2e-4)
    assert (b.link_bytes_per_s, b.link_latency_s) == (1e7, 1e-3)


def test_nodes_of_one_machine_have_no_link(tmp_path: Path) -> None:
    file = tmp_path / "links.yaml"
    file.write_text(to_facts(report(hosts=("h", "h", "h"))))
    assert all(facts.link_bytes_per_s is None and facts.host_id == "h" for facts in read_facts_file(file))


@pytest.mark.parametrize(
    ("seconds_s", "text"), [(None, "-"), (2.5e-5, "25 µs"), (0.0123, "12.3 ms"), (1.5, "1.50 s")], ids=str
)
def test_durations_are_short(seconds_s: float | None, text: str) -> None:
    assert duration(seconds_s) == text


@pytest.mark.parametrize(("count", "text"), [(64, "64 B"), (4096, "4 KiB"), (128 << 20, "128 MiB")])
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text
