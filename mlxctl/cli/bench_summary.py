"""The end of a bench on the terminal: figures with bars, then what they mean. Used by `bench` and `bench show`."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlxctl.bench.metrics import BY_NAME, METRICS
from mlxctl.bench.records import Workload
from mlxctl.bench.report import EngineFigure, Report, Result, Sentence
from mlxctl.bench.statistics import Interval
from mlxctl.bench.tables import engine_cells, figure, wanted_words

BAR_COLUMNS = 28
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MARKS = {"good": ("✓", "green"), "plain": ("·", "dim"), "warning": ("!", "yellow"), "error": ("✗", "bold red")}


def render(report: Report) -> RenderableType:
    """The whole summary."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    model = report.model
    facts = ", ".join(str(each) for each in (model.quantization, model.dtype) if each and each != "none")
    yield Text.assemble((report.title, "bold"), f"  {model.name}", (f" ({facts})" if facts else "", "dim"))
    if report.results:
        yield _figures(report)
    if report.engine:
        yield from _engine(report)
    for sentence in report.verdicts:
        yield verdict_line(sentence)


def _engine(report: Report) -> Iterator[RenderableType]:
    """Each figure with its spread and what is wanted, then the machine."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("figure", "median", "rounds", "wanted", ""):
        table.add_column(title, no_wrap=title in ("median", "rounds", "wanted"))
    for each in report.engine:
        name, median, rounds, *_, note = engine_cells(each)
        table.add_row(name, Text(median, _reach(each)), rounds, wanted_words(each), Text(note, "dim"))
    yield table
    for host in report.hosts:
        cores = f", {host.cores} cores" if host.cores else ""
        load = f", load {host.load_1m:.1f} at the start" if host.load_1m is not None else ""
        yield Text(f"{host.chip}{cores}, {host.os}{load}", "dim")


def _reach(each: EngineFigure) -> str:
    return {True: "green", False: "yellow", None: ""}[each.is_reached]


def verdict_line(sentence: Sentence) -> Text:
    """One sentence behind the mark of its tone."""
    mark, style = _MARKS[sentence.tone]
    words = style if sentence.tone in ("error", "warning") else ""
    return Text.assemble((f"{mark} ", style), (sentence.text, words))


def _figures(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("workload", "metric", "devices"):
        table.add_column(title, no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    for title in ("95 % interval", "n", ""):
        table.add_column(title, no_wrap=True)
    for workload in report.workloads:
        mine = [result for result in report.results if result.workload == workload.id]
        for metric in METRICS[workload.kind]:
            rows = [result for result in mine if result.metric == metric.name]
            most = max((result.summary.mean for result in rows), default=0.0)
            for place, result in enumerate(rows):
                names = (_title(workload), BY_NAME[metric.name].title) if place == 0 else ("", "")
                table.add_row(*names, *_row(result, most))
    return table


def _row(result: Result, most: float) -> tuple[str | Text, ...]:
    summary = result.summary
    interval = summary.interval
    span = f"{figure(interval.low)} to {figure(interval.high)}{_mark(interval)}" if interval else "too few runs"
    devices = str(result.devices) if result.devices else "-"
    style = "cyan" if result.better == "higher" else "magenta"
    return (
        devices,
        f"{figure(summary.mean)} {result.unit}",
        span,
        str(summary.n),
        Text(bar(summary.mean / most if most else 0.0), style),
    )


def _mark(interval: Interval) -> str:
    """Where launches differ, the interval is theirs."""
    return " *" if interval.method == "launches" else ""


def _title(workload: Workload) -> str:
    depth = "" if workload.kind in ("prefill", "file") or "@" in workload.id else f" @{workload.depth}"
    return workload.id + depth


def bar(share: float) -> str:
    """A bar of `share` (0 to 1) of the full width, in eighths of a column."""
    eighths = round(max(0.0, min(share, 1.0)) * BAR_COLUMNS * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
