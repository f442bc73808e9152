"""A links report as CSV, Markdown, and facts that `mlxctl plan --simulate` reads. Pure; called by the command."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from mlxctl.bench.links_report import GRPC, LinkNode, LinksReport, PairResult, best, quickest
from mlxctl.bench.tables import figure
from mlxctl.hardware import find_mac

COLUMNS = (
    "transport", "what", "source", "target", "size_bytes", "n", "p50_s", "p99_s", "mean_s", "low_s", "high_s",
    "bytes_per_s",
)  # fmt: skip
_UNITS = ((1 << 20, "MiB"), (1 << 10, "KiB"))


def size(count_bytes: int) -> str:
    """65536 → 64 KiB."""
    return next((f"{count_bytes // unit} {name}" for unit, name in _UNITS if count_bytes >= unit), f"{count_bytes} B")


def duration(seconds_s: float | None) -> str:
    """Microseconds below a millisecond, then milliseconds, then seconds."""
    if seconds_s is None:
        return "-"
    value, unit = (seconds_s, "s") if seconds_s >= 1 else (seconds_s * 1e3, "ms")
    return f"{seconds_s * 1e6:.0f} µs" if seconds_s < 1e-3 else f"{figure(value)} {unit}"


def rate(bytes_per_s: float | None) -> str:
    return "-" if bytes_per_s is None else f"{figure(bytes_per_s / 1e6)} MB/s"


def matrix(report: LinksReport, transport: str) -> list[list[str]]:
    """A row per source, a column per target: round trip of the smallest messages (median), best bandwidth."""
    rows = []
    for source in report.nodes:
        cells = [source.name]
        for target in report.nodes:
            near = quickest(report.pairs, transport, source.name, target.name)
            wide = best(report.pairs, transport, source.name, target.name)
            figures = [duration(near.round_trip.median)] if near else ["·"]
            cells.append(", ".join([*figures, *([rate(wide.bytes_per_s)] if wide else [])]))
        rows.append(cells)
    return rows


def pair_row(report: LinksReport, each: PairResult) -> tuple[str, ...]:
    trip = each.round_trip
    return (
        report.title_of(each.transport),
        f"{each.source} → {each.target}",
        size(each.size_bytes),
        str(trip.n),
        duration(trip.median),
        duration(trip.p99),
        rate(each.bytes_per_s),
    )


def collective_rows(report: LinksReport) -> list[tuple[str, ...]]:
    return [
        (
            report.title_of(each.transport),
            each.operation.replace("_", "-"),
            size(each.size_bytes) if each.size_bytes else "-",
            str(each.time.n),
            duration(each.time.median),
            f"{duration(each.time.lower_quartile)} to {duration(each.time.upper_quartile)}",
            rate(each.bus_bytes_per_s),
        )
        for each in report.collectives
    ]


PAIR_HEAD = ("transport", "from, to", "size", "n", "round trip p50", "p99", "bandwidth")
COLLECTIVE_HEAD = ("transport", "operation", "size", "n", "time p50", "quartiles", "bus bandwidth")


def to_csv(report: LinksReport) -> str:
    """One row per pair and size, and per collective and size; empty where there is no figure."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for pair in report.pairs:
        place = (pair.transport, "round trip", pair.source, pair.target, pair.size_bytes)
        writer.writerow((*place, *_figures(pair.round_trip), pair.bytes_per_s))
    for each in report.collectives:
        place = (each.transport, each.operation, "", "", each.size_bytes)
        writer.writerow((*place, *_figures(each.time), each.bus_bytes_per_s))
    return out.getvalue()


def _figures(summary: Any) -> tuple[Any, ...]:
    interval = summary.interval
    low, high = (interval.low, interval.high) if interval else (None, None)
    return summary.n, summary.median, summary.p99, summary.mean, low, high


def to_markdown(report: LinksReport) -> str:
    """Sentences, matrices, tables, definitions."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: LinksReport) -> Iterator[str]:
    yield from (f"# {report.title}", "")
    yield from (f"- {sentence.text}" for sentence in report.verdicts)
    for state in report.transports:
        if state.reason is None:
            head = ("from \\ to", *(node.name for node in report.nodes))
            yield from ("", f"## {state.title}: round trip, bandwidth", "", *_table(head, matrix(report, state.name)))
    yield from ("", "## Pairs", "", *_table(PAIR_HEAD, [pair_row(report, each) for each in report.pairs]))
    yield from ("", "## All ranks", "", *_table(COLLECTIVE_HEAD, collective_rows(report)))
    yield from ("", "## Machines", "")
    for host in report.hosts:
        yield f"- {host.name} ({', '.join(host.nodes)}): {host.chip}, {host.memory_bytes / 2**30:.0f} GiB, {host.os}"
    yield from ("", "## Definitions", "")
    yield from (f"- **{name}**: {text}" for name, text in report.definitions.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def to_facts(report: LinksReport) -> str:
    """The nodes as a facts file, each with its slowest link over our wire; nodes of one machine have none."""
    document = {"nodes": [_facts(report, node) for node in report.nodes]}
    lines = [
        f"# Measured by {report.title} at {report.started_at}; read by: mlxctl plan --simulate FILE",
        "# link_latency_us is half a round trip of a small message, link_mb_per_s the bandwidth, of the slowest link.",
    ]
    return "\n".join(lines) + "\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _facts(report: LinksReport, node: LinkNode) -> dict[str, Any]:
    knows_chip = find_mac(node.chip, node.memory_bytes) is not None or node.bandwidth_bytes_per_s is not None
    rates, delays_s = link_of(report, node)
    found = {
        "name": node.name,
        "host": node.host,
        "memory": node.memory_bytes,
        "available": min(node.available_bytes, node.memory_bytes),
        "wired_limit": node.wired_limit_bytes,
        "chip": node.chip if knows_chip else None,
        "os": node.os,
        "bandwidth_gb_per_s": node.bandwidth_bytes_per_s and round(node.bandwidth_bytes_per_s / 1e9, 2),
        "tflops": node.flops and round(node.flops / 1e12, 3),
        "link_mb_per_s": rates and round(rates / 1e6, 1),
        "link_latency_us": delays_s and round(delays_s * 1e6, 1),
    }
    return {key: value for key, value in found.items() if value is not None}


def link_of(report: LinksReport, node: LinkNode) -> tuple[float | None, float | None]:
    """Bytes a second and seconds one way from the other machine that reaches `node` worst; None if there is none."""
    others = [other.name for other in report.nodes if other.host != node.host]
    wide = [each for name in others if (each := best(report.pairs, GRPC, name, node.name))]
    near = [each for name in others if (each := quickest(report.pairs, GRPC, name, node.name))]
    slowest_s = max((each.round_trip.median for each in near), default=None)
    return min((each.bytes_per_s for each in wide), default=None), slowest_s and slowest_s / 2
