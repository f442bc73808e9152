"""A links report as one self-contained HTML page: a matrix of the pairs, curves over sizes, tables. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from mlxctl.bench.charts import COLOURS
from mlxctl.bench.html import page, section, sentences, table
from mlxctl.bench.links_report import LinksReport, PairResult
from mlxctl.bench.links_tables import (
    COLLECTIVE_HEAD,
    PAIR_HEAD,
    collective_rows,
    duration,
    matrix,
    pair_row,
    rate,
    size,
)
from mlxctl.bench.svg import Plot, label, legend, top_of

_TIMES = ((1e6, "s"), (1e3, "ms"), (1.0, "µs"))
_TICKS_APART = 0.09  # of the axis

Curve = tuple[str, list[tuple[float, float]]]


def to_html(report: LinksReport) -> str:
    """The page of `report`."""
    names = [node.name for node in report.nodes]
    matrices = [
        section(
            f"{state.title}: round trip of the smallest message, best bandwidth",
            table(("from \\ to", *names), matrix(report, state.name)),
            f"matrix-{state.name}",
        )
        for state in report.transports
        if state.reason is None
    ]
    parts = [
        _head(report),
        sentences(report.verdicts),
        *matrices,
        _figure("latency", "Round trips", _latency(report), "Median; both axes are logarithmic."),
        _figure("bandwidth", "Bandwidth one way", _bandwidth(report), "In bursts, by size of message."),
        _figure("collectives", "Collectives over all ranks", _collectives(report), "Bus bandwidth by size.", "wide"),
        section("Pairs", table(PAIR_HEAD, [pair_row(report, each) for each in report.pairs]), "pairs"),
        section("All ranks", table(COLLECTIVE_HEAD, collective_rows(report)), "all-ranks"),
        _machines(report),
        _method(report),
    ]
    return page(report.title, "".join(parts))


def _head(report: LinksReport) -> str:
    badge = '<span class="badge">processes of one machine</span>' if report.one_host else ""
    return (
        f"<header><h1>{escape(report.title)}{badge}</h1>"
        f'<p class="dim">{escape(report.started_at)} · {len(report.nodes)} ranks · suite {escape(report.suite)} · '
        f"mlxctl {escape(report.tool.version)}</p></header>"
    )


def _figure(key: str, title: str, body: str, caption: str, kind: str = "") -> str:
    figure = f'<figure class="{kind}">{body}<figcaption>{escape(caption)}</figcaption></figure>' if body else ""
    return section(title, figure, key)


def _latency(report: LinksReport) -> str:
    curves = _curves(report, lambda each: math.log10(each.round_trip.median * 1e6))
    if not curves:
        return ""
    highs = [value for _, points in curves for _, value in points]
    low, high = math.floor(min(highs)), max(highs)
    plot = _plot(curves, "there and back", (float(low), max(high, low + 1.0)), _short)
    return _drawn(plot, curves, lambda power: duration(10**power / 1e6), "Round trips")


def _short(power: float) -> str:
    """A tick: 10 to that power, in microseconds."""
    value, unit = next((10**power / scale, unit) for scale, unit in _TIMES if 10**power >= scale or unit == "µs")
    return f"{value:.3g} {unit}"


def _bandwidth(report: LinksReport) -> str:
    curves = _curves(report, lambda each: each.bytes_per_s / 1e6)
    if not curves:
        return ""
    plot = _plot(curves, "MB/s", (0.0, top_of([value for _, points in curves for _, value in points])))
    return _drawn(plot, curves, lambda value: rate(value * 1e6), "Bandwidth")


def _curves(report: LinksReport, value: Callable[[PairResult], float]) -> list[Curve]:
    """A curve per transport: of each size the pair in the middle, so that many pairs stay readable."""
    found = []
    for state in report.transports:
        mine = [each for each in report.pairs if each.transport == state.name]
        points = []
        for count_bytes in sorted({each.size_bytes for each in mine}):
            values = sorted(value(each) for each in mine if each.size_bytes == count_bytes)
            points.append((float(count_bytes), values[len(values) // 2]))
        if points:
            found.append((f"{state.title}, middle one of {len({(e.source, e.target) for e in mine})} pairs", points))
    return found


def _collectives(report: LinksReport) -> str:
    curves: list[Curve] = []
    for state in report.transports:
        for operation in ("broadcast", "all_gather", "all_reduce sum"):
            points = [
                (float(each.size_bytes), each.bus_bytes_per_s / 1e6)
                for each in report.collectives
                if (each.transport, each.operation) == (state.name, operation) and each.bus_bytes_per_s
            ]
            if points:
                curves.append((f"{state.title} {operation.replace('_', '-')}", points))
    if not curves:
        return ""
    plot = _plot(curves, "MB/s", (0.0, top_of([value for _, points in curves for _, value in points])))
    return _drawn(plot, curves, lambda value: rate(value * 1e6), "Collectives")


def _plot(
    curves: Sequence[Curve], y_title: str, y_range: tuple[float, float], y_words: Callable[[float], str] = label
) -> Plot:
    sizes = sorted({x for _, points in curves for x, _ in points})
    x_range = (sizes[0] * 0.7, sizes[-1] * 1.5)
    apart = (x_range[1] / x_range[0]) ** _TICKS_APART
    shown: list[float] = []
    for x in sizes:
        if not shown or x >= shown[-1] * apart:
            shown.append(x)
    ticks = [(x, size(int(x))) for x in shown]
    return Plot("size of a message", y_title, x_range, y_range, x_log=True, x_ticks=ticks, y_words=y_words)


def _drawn(plot: Plot, curves: Sequence[Curve], words: Callable[[float], str], title: str) -> str:
    keys = []
    for colour, (name, points) in zip(COLOURS, curves, strict=False):
        plot.line(points, colour)
        for x, y in points:
            plot.dot((x, y), colour, f"{name}, {size(int(x))}: {words(y)}")
        keys.append((colour, name))
    return legend(keys) + plot.render(title)


def _machines(report: LinksReport) -> str:
    rows = [
        (host.name, ", ".join(host.nodes), host.chip, f"{host.memory_bytes / 2**30:.1f} GiB", host.os)
        for host in report.hosts
    ]
    return section("Machines", table(("machine", "nodes", "chip", "memory", "system"), rows), "hosts")


def _method(report: LinksReport) -> str:
    tool = report.tool
    lines = {
        **report.definitions,
        "tool": f"mlxctl {tool.version}, commit {tool.commit or 'unknown'}{' with changes' if tool.dirty else ''}",
        "command": " ".join(report.argv),
    }
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines.items())
    return section("Method and definitions", f"<dl>{items}</dl>", "method")
