"""Reports as CSV and Markdown. Pure; called by the command."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from mlxctl.bench.metrics import BY_NAME
from mlxctl.bench.report import EngineFigure, Report, Result
from mlxctl.bench.statistics import Summary

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
    "wanted",
)
ENGINE_HEAD = ("figure", "median", "rounds", "95 % interval of the mean", "n", "wanted", "sides", "note")
_MARKS = {"good": "✓", "plain": "·", "warning": "!", "error": "✗"}


def to_csv(report: Report) -> str:
    """One row per device count, workload and metric, or per figure of the engine; empty where there is no figure."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(_row(report, result) for result in report.results)
    writer.writerows(_engine_row(each) for each in report.engine)
    return out.getvalue()


def _row(report: Report, result: Result) -> dict[str, object]:
    workload = report.workload(result.workload)
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
        **_summary(result.summary),
    }


def _engine_row(each: EngineFigure) -> dict[str, object]:
    return {
        "workload": each.name,
        "kind": "engine",
        "metric": each.group,
        "unit": each.unit,
        "better": each.better,
        "wanted": each.wanted,
        **_summary(each.summary),
    }


def _summary(summary: Summary) -> dict[str, object]:
    interval = summary.interval
    return {
        **{name: getattr(summary, name) for name in COLUMNS if hasattr(summary, name) and name != "interval"},
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "interval": interval.method if interval else None,
    }


def engine_cells(each: EngineFigure) -> tuple[str, ...]:
    """A row under ENGINE_HEAD."""
    summary, interval = each.summary, each.summary.interval
    unit = "" if each.unit == "ratio" else f" {each.unit}"
    return (
        each.name,
        f"{figure(summary.median)}{unit}",
        f"{figure(summary.least)} to {figure(summary.most)}",
        f"{figure(interval.low)} to {figure(interval.high)}" if interval else "too few rounds",
        str(summary.n),
        wanted_words(each),
        f"{' / '.join(map(figure, each.side_medians))} {each.side_unit}" if each.unit == "ratio" else "",
        each.note,
    )


def wanted_words(each: EngineFigure) -> str:
    """`at least 0.93`, `at most 250`; empty where nothing is wanted."""
    if each.wanted is None:
        return ""
    return f"at {'least' if each.better == 'higher' else 'most'} {figure(each.wanted)}"


def to_markdown(report: Report) -> str:
    """Verdicts, figures, machine, method: for a README or an issue."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Report) -> Iterator[str]:
    yield f"# {report.title}"
    yield ""
    for sentence in report.verdicts:
        yield f"- {_MARKS[sentence.tone]} {sentence.text}"
    if report.results:
        yield from ("", "## Figures", "")
        yield from _table(
            ("workload", "depth", "metric", "devices", "n", "mean", "95 % interval", "median", "quartiles", "unit"),
            [_figures(report, result) for result in report.results],
        )
    if report.engine:
        yield from ("", "## The engine", "")
        yield from _table(ENGINE_HEAD, [engine_cells(each) for each in report.engine])
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
