"""The plots of a report. Each is a Figure or None where there is nothing to show. Pure; called by html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxctl.bench.metrics import METRICS
from mlxctl.bench.records import Workload
from mlxctl.bench.report import Report, Result, StageTime
from mlxctl.bench.scaling import ideal
from mlxctl.bench.svg import Plot, legend, staircase, top_of
from mlxctl.bench.tables import figure

PARTS = (
    ("compute_s", "compute", "c0"),
    ("serialize_s", "serialize", "c1"),
    ("wire_s", "frames arriving", "c2"),
    ("wait_s", "wait for work", "c3"),
    ("residual_s", "not accounted for", "c4"),
)
MOST_BARS = 12
COLOURS = tuple(f"c{index}" for index in range(8))


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with what it shows, in words."""

    key: str
    title: str
    body: str
    caption: str


def figures(report: Report) -> list[Figure]:
    """Every plot that the report has figures for."""
    found = [
        _scaling(report, "scaling", "Decoding against devices", ("decode", "concurrent")),
        _scaling(report, "prefill", "Reading prompts against devices", ("prefill",)),
        _stages(report),
        _depth(report),
        _gaps(report),
        _knee(report),
        _arrivals(report),
        _memory(report),
    ]
    return [each for each in found if each is not None]


def _span(result: Result) -> tuple[float, float] | None:
    interval = result.summary.interval
    return (interval.low, interval.high) if interval else None


def _tip(result: Result) -> str:
    span = _span(result)
    between = f", 95 % interval {figure(span[0])} to {figure(span[1])}" if span else ""
    return f"{result.workload}, {result.devices} devices: {figure(result.summary.mean)} {result.unit}{between}"


def _scaling(report: Report, key: str, title: str, kinds: Sequence[str]) -> Figure | None:
    """Tokens a second against devices, with what would be ideal and what memory bandwidth allows."""
    lines = {workload.id: _line(report, workload) for workload in _shown(report, kinds)}
    lines = {name: line for name, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    counts = sorted({result.devices for line in lines.values() for result in line})
    ideals = {name: _ideal(report, name, line) for name, line in lines.items()}
    tops = [max(result.summary.mean, (_span(result) or (0, 0))[1]) for line in lines.values() for result in line]
    plot = Plot(
        "processes of one machine (simulated devices)" if report.simulated_devices else "devices",
        "tokens a second",
        (counts[0] * 0.85, counts[-1] * 1.2),
        (0.0, top_of([*tops, *(line[-1][1] for line in ideals.values())], 1.02)),
        x_log=True,
        x_ticks=[(count, str(count)) for count in counts],
    )
    keys = []
    for colour, (name, line) in zip(COLOURS, lines.items(), strict=False):
        plot.line(ideals[name], colour, dashed=True)
        points = [(result.devices, result.summary.mean) for result in line]
        plot.line(points, colour)
        for at, result in zip(points, line, strict=True):
            plot.dot(at, colour, _tip(result), _span(result))
        _roofline(plot, report, name, colour)
        keys.append((colour, _meaning(report.workload(name))))
    keys.append(("dashed", "ideal"))
    caption = "Whiskers are 95 % intervals. Rooflines, where they fit the axis, are short bars. "
    if "decode" in kinds:
        caption += "One stream stays level at best: a pipeline cannot speed it up."
    return Figure(key, title, legend(keys) + plot.render(title), caption)


def _line(report: Report, workload: Workload) -> list[Result]:
    metric = METRICS[workload.kind][0]
    if metric.unit != "tok/s":
        return []
    mine = [each for each in report.results if (each.workload, each.metric) == (workload.id, metric.name)]
    return sorted(mine, key=lambda result: result.devices)


def _ideal(report: Report, name: str, line: Sequence[Result]) -> list[tuple[float, float]]:
    """The fewest devices' speed, as often as their number can give at best."""
    first = line[0]
    workload = report.workload(name)
    return [(each.devices, first.summary.mean * ideal(workload, each.devices / first.devices)) for each in line]


def _shown(report: Report, kinds: Sequence[str]) -> list[Workload]:
    """As many as there are colours: of decoding only the shallowest (the others have a plot), the most streams."""
    found = [workload for workload in report.workloads if workload.kind in kinds]
    decoding = sorted((each for each in found if each.kind == "decode"), key=lambda each: each.depth)[:1]
    others = [each for each in found if each.kind != "decode" and (each.streams > 1 or not decoding)]
    return [*decoding, *others[-(len(COLOURS) - 1) :]]


def _roofline(plot: Plot, report: Report, name: str, colour: str) -> None:
    metric = METRICS[report.workload(name).kind][0].name
    for each in report.against:
        if (each.workload, each.metric) == (name, metric) and each.roofline and each.roofline <= plot.y_range[1]:
            left, right = each.devices * 0.94, each.devices * 1.06
            plot.line([(left, each.roofline), (right, each.roofline)], colour)


def _meaning(workload: Workload) -> str:
    what = {
        "prefill": f"reading {workload.prompt_tokens} tokens",
        "decode": f"one stream at depth {workload.depth}",
        "concurrent": f"{workload.streams} streams together",
    }
    return f"{workload.id}: {what.get(workload.kind, workload.kind)}"


def _stages(report: Report) -> Figure | None:
    """Stacked stage times, a bar per stage, workload and number of devices."""
    times = [each for each in report.stage_times if each.wall_s > 0]
    if not times:
        return None
    keys = list(dict.fromkeys((each.workload, each.devices) for each in times if each.devices > 1)) or [
        (each.workload, each.devices) for each in times
    ]
    chosen = sorted(
        (each for each in times if (each.workload, each.devices) in keys),
        key=lambda each: (keys.index((each.workload, each.devices)), each.stage),
    )[:MOST_BARS]
    plot = Plot(
        "stage",
        "share of the run's time",
        (0.0, float(len(chosen))),
        (0.0, 1.0),
        x_ticks=[(index + 0.5, str(each.stage)) for index, each in enumerate(chosen)],
        height=320,
    )
    groups: dict[tuple[str, int], list[int]] = {}
    for index, each in enumerate(chosen):
        groups.setdefault((each.workload, each.devices), []).append(index)
        _stack(plot, index, each)
    for (workload, devices), places in groups.items():
        plot.note((sum(places) / len(places) + 0.5, 1.0), f"{workload} x{devices}", anchor="middle", dy=-4)
    parts = [(colour, name) for _, name, colour in PARTS]
    caption = "Wall time of the mean run, stage by stage. Waiting for work is the pipeline's bubble."
    return Figure("stages", "Where the time goes", legend(parts) + plot.render("Stage times"), caption)


def _stack(plot: Plot, index: int, each: StageTime) -> None:
    low = 0.0
    for name, title, colour in PARTS:
        share = max(0.0, getattr(each, name)) / each.wall_s
        tip = f"{each.workload}, {each.devices} devices, {each.node}: {title} {share:.0%} of {each.wall_s:.2f} s"
        plot.box(index + 0.14, index + 0.86, low, min(1.0, low + share), colour, tip)
        low = min(1.0, low + share)


def _depth(report: Report) -> Figure | None:
    """Decode speed against the tokens in the context."""
    rows = [result for result in report.results if result.metric == "tg_tps" and _kind(report, result) == "decode"]
    depths = sorted({report.workload(result.workload).depth for result in rows})
    if len(depths) < 2:
        return None
    plot = Plot(
        "depth: tokens in the context",
        "tokens a second, one stream",
        (depths[0] * 0.8, depths[-1] * 1.25),
        (0.0, top_of([max(result.summary.mean, (_span(result) or (0, 0))[1]) for result in rows])),
        x_log=True,
        x_ticks=[(depth, f"{depth}") for depth in depths],
    )
    keys = []
    for colour, devices in zip(COLOURS, sorted({result.devices for result in rows}), strict=False):
        line = [result for result in rows if result.devices == devices]
        points = [(float(report.workload(result.workload).depth), result.summary.mean) for result in line]
        plot.line(points, colour)
        for at, result in zip(points, line, strict=True):
            plot.dot(at, colour, _tip(result), _span(result))
        keys.append((colour, _count(devices)))
    caption = "Whiskers are 95 % intervals."
    return Figure("depth", "Decoding against depth", legend(keys) + plot.render("Decode speed by depth"), caption)


def _gaps(report: Report) -> Figure | None:
    """ECDFs of inter-token latency."""
    spreads = [each for each in report.inter_token if _kind_of(report, each.workload) in ("decode", "concurrent")]
    spreads = spreads[: len(COLOURS)]
    if not spreads:
        return None
    cap = top_of([each.quantiles_ms[round((len(each.quantiles_ms) - 1) * 0.98)] for each in spreads])
    plot = Plot("milliseconds between events that bring text", "share of gaps", (0.0, cap), (0.0, 1.0))
    keys = []
    for colour, each in zip(COLOURS, spreads, strict=False):
        last = len(each.quantiles_ms) - 1
        plot.line(staircase(each.quantiles_ms, cap, lambda index, last=last: index / max(last, 1)), colour)  # type: ignore[misc]
        keys.append((colour, f"{each.workload}, {_count(each.devices)}: median {figure(each.p50_ms)} ms"))
    caption = "All gaps of all runs. The axis ends at the 98th percentile of the slowest."
    return Figure("gaps", "Inter-token latency", legend(keys) + plot.render("ECDF of inter-token latency"), caption)


def _knee(report: Report) -> Figure | None:
    """What latency costs: speed per user against aggregate, a point per number of streams."""
    lines = {
        devices: [
            (streams, both)
            for streams in sorted({each.streams for each in report.workloads if each.kind == "concurrent"})
            if (both := _both(report, devices, streams)) is not None
        ]
        for devices in sorted({result.devices for result in report.results})
    }
    lines = {devices: line for devices, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    everything = [both for line in lines.values() for _, both in line]
    plot = Plot(
        "aggregate, tokens a second",
        "tokens a second per user",
        (0.0, top_of([both[0].summary.mean for both in everything])),
        (0.0, top_of([both[1].summary.mean for both in everything])),
    )
    keys = []
    for colour, (devices, line) in zip(COLOURS, lines.items(), strict=False):
        points = [(both[0].summary.mean, both[1].summary.mean) for _, both in line]
        plot.line(points, colour)
        for (streams, both), at in zip(line, points, strict=True):
            plot.dot(at, colour, f"{streams} streams on {_count(devices)}: {_tip(both[0])}")
            plot.note(at, str(streams), colour)
        keys.append((colour, _count(devices)))
    caption = "Numbers at the points are streams at once. Up and to the right is better."
    return Figure("knee", "Latency against throughput", legend(keys) + plot.render("Per user by aggregate"), caption)


def _both(report: Report, devices: int, streams: int) -> tuple[Result, Result] | None:
    name = next(each.id for each in report.workloads if each.kind == "concurrent" and each.streams == streams)
    aggregate, user = (report.result(devices, name, metric) for metric in ("aggregate_tps", "user_tps"))
    return (aggregate, user) if aggregate is not None and user is not None else None


def _arrivals(report: Report) -> Figure | None:
    """What waiting costs when requests come by themselves: time to first token against their rate."""
    rows = [each for each in report.results if each.metric == "ttft_s" and _kind(report, each) == "arrivals"]
    rates = sorted({report.workload(each.workload).rate_per_s or 0.0 for each in rows})
    if len(rates) < 2:
        return None
    plot = Plot(
        "requests a second",
        "seconds to the first token",
        (rates[0] * 0.8, rates[-1] * 1.25),
        (0.0, top_of([max(each.summary.mean, (_span(each) or (0, 0))[1]) for each in rows])),
        x_log=True,
        x_ticks=[(rate, f"{rate:g}") for rate in rates],
    )
    keys = []
    for colour, devices in zip(COLOURS, sorted({each.devices for each in rows}), strict=False):
        line = [each for each in rows if each.devices == devices]
        points = [(report.workload(each.workload).rate_per_s or 0.0, each.summary.mean) for each in line]
        plot.line(points, colour)
        for at, each in zip(points, line, strict=True):
            plot.dot(at, colour, _tip(each), _span(each))
        keys.append((colour, _count(devices)))
    caption = "Poisson arrivals; the time counts from the moment a request was due. Whiskers are 95 % intervals."
    body = legend(keys) + plot.render("Time to first token by arrival rate")
    return Figure("arrivals", "Latency against arrivals", body, caption)


def _memory(report: Report) -> Figure | None:
    """Weights, room for caches and the peak that was seen, by device."""
    seen = {(visit.devices, device.stage): device for visit in report.visits for device in visit.stages}
    if not seen:
        return None
    devices = [(count, device) for (count, _), device in sorted(seen.items())][:24]
    mib = 1 / (1 << 20)
    tops = [max(device.weight_bytes + device.kv_bytes, device.peak_bytes or 0) * mib for _, device in devices]
    plot = Plot(
        "stage, by number of devices",
        "MiB",
        (0.0, float(len(devices))),
        (0.0, top_of(tops)),
        x_ticks=[(index + 0.5, f"{device.stage} of {count}") for index, (count, device) in enumerate(devices)],
    )
    for index, (_, device) in enumerate(devices):
        weights, caches = device.weight_bytes * mib, device.kv_bytes * mib
        plot.box(index + 0.2, index + 0.8, 0.0, weights, "c0", f"{device.node}: weights {weights:.1f} MiB")
        tip = f"{device.node}: room for caches {caches:.1f} MiB"
        plot.box(index + 0.2, index + 0.8, weights, weights + caches, "c3", tip)
        if device.peak_bytes:
            peak = device.peak_bytes * mib
            plot.line([(index + 0.1, peak), (index + 0.9, peak)], "c2")
    keys = [("c0", "weights"), ("c3", "caches when full"), ("c2", "most that was held at once")]
    return Figure("memory", "Memory", legend(keys) + plot.render("Memory by stage"), "As the stages themselves report.")


def _kind(report: Report, result: Result) -> str:
    return _kind_of(report, result.workload)


def _kind_of(report: Report, workload: str) -> str:
    return report.workload(workload).kind


def _count(devices: int) -> str:
    return "endpoint" if devices == 0 else "1 device" if devices == 1 else f"{devices} devices"
