"""Reports as CSV and Markdown. Pure; called by the command."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from mlxctl.bench.metrics import BY_NAME
from mlxctl.bench.report import Report, Result

COLUMNS = (
    "devices",
    "workload",
    "kind",
    "depth",
    "output_tokens",
    "streams",
    "rate_per_s",
    "metric",
    "unit",
    "better",
    "n",
    "mean",
    "sd",
    "median",
    "lower_quartile",
    "upper_quartile",
    "p90",
    "p95",
    "p99",
    "least",
    "most",
    "low",
    "high",
    "interval",
)
_MARKS = {"good": "✓", "plain": "·", "warning": "!", "error": "✗"}


def to_csv(report: Report) -> str:
    """One row per device count, workload and metric; empty where there is no figure."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(_row(report, result) for result in report.results)
    return out.getvalue()


def _row(report: Report, result: Result) -> dict[str, object]:
    workload, summary = report.workload(result.workload), result.summary
    interval = summary.interval
    return {
        "devices": result.devices,
        "workload": workload.id,
        "kind": workload.kind,
        "depth": workload.depth,
        "output_tokens": workload.output_tokens,
        "streams": workload.streams,
        "rate_per_s": workload.rate_per_s,
        "metric": result.metric,
        "unit": result.unit,
        "better": result.better,
        **{name: getattr(summary, name) for name in COLUMNS if hasattr(summary, name) and name != "interval"},
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "interval": interval.method if interval else None,
    }


def to_markdown(report: Report) -> str:
    """Verdicts, figures, machine, method: for a README or an issue."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Report) -> Iterator[str]:
    yield f"# {report.title}"
    yield ""
    for sentence in report.verdicts:
        yield f"- {_MARKS[sentence.tone]} {sentence.text}"
    yield from ("", "## Figures", "")
    yield from _table(
        ("workload", "depth", "metric", "devices", "n", "mean", "95 % interval", "median", "quartiles", "unit"),
        [_figures(report, result) for result in report.results],
    )
    yield from ("", "## Machine", "")
    for host in report.hosts:
        bandwidth = host.bandwidth_bytes_per_s
        measured = f", {bandwidth / 1e9:.0f} GB/s memory bandwidth ({host.bandwidth_source})" if bandwidth else ""
        yield f"- {host.name}: {host.chip}, {host.memory_bytes / 2**30:.0f} GiB{measured}, {host.os}"
        if host.versions:
            yield "  - " + ", ".join(f"{name} {version}" for name, version in host.versions.items())
    yield from ("", "## Method", "")
    model, protocol = report.model, report.protocol
    yield f"- model {model.name}, {model.quantization}, {model.dtype}, hash {model.hash}"
    yield f"- mlxctl {report.tool.version}, commit {report.tool.commit}{', changed' if report.tool.dirty else ''}"
    yield f"- suite {protocol.suite}, seed {protocol.seed}, launches with {', '.join(map(str, protocol.plan))} devices"
    yield f"- warm-up: {protocol.warm_up}"
    yield f"- stop: {protocol.stop}"
    yield from ("", "## Definitions", "")
    for name, definition in report.definitions.items():
        yield f"- **{name}**: {definition}"


def _figures(report: Report, result: Result) -> tuple[str, ...]:
    summary, interval = result.summary, result.summary.interval
    return (
        result.workload,
        str(report.workload(result.workload).depth),
        BY_NAME[result.metric].title,
        str(result.devices),
        str(summary.n),
        figure(summary.mean),
        f"{figure(interval.low)} to {figure(interval.high)}" if interval else "too few runs",
        figure(summary.median),
        f"{figure(summary.lower_quartile)} to {figure(summary.upper_quartile)}",
        result.unit,
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def figure(value: float) -> str:
    """Three significant digits, and no more of them than needed: 0.0421, 3.14, 218."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:#.3g}"
