"""A report, or a comparison, as one self-contained HTML page: inline SVG, light and dark, nothing from elsewhere.

Pure; called by the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from mlxctl.bench.charts import figures
from mlxctl.bench.metrics import BY_NAME
from mlxctl.bench.report import Report, Sentence
from mlxctl.bench.tables import ENGINE_HEAD, engine_cells, figure

STYLE_FILE = Path(__file__).with_name("report.css")
_MARKS = {"good": "✓", "plain": "", "warning": "!", "error": "✗"}
_GIB = 1 << 30


def to_html(report: Report) -> str:
    """The page of `report`."""
    parts = [
        _head(report),
        sentences(report.verdicts),
        *_figures(report),
        section("The engine", table(ENGINE_HEAD, [engine_cells(each) for each in report.engine]), "engine"),
        _results(report),
        _scaling(report),
        _against(report),
        _equality(report),
        _links(report),
        _hosts(report),
        _method(report),
    ]
    return page(report.title, "".join(parts))


def page(title: str, body: str) -> str:
    """A whole document."""
    style = STYLE_FILE.read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def section(title: str, body: str, key: str = "") -> str:
    """A titled part; empty without a body."""
    return f'<section id="{key}"><h2>{escape(title)}</h2>{body}</section>' if body else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text; columns of figures are set to the right by the style."""
    if not rows:
        return ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def sentences(verdicts: Sequence[Sentence]) -> str:
    """What the figures mean; what is wrong stands out."""
    items = (
        f'<li class="{each.tone}"><b>{_MARKS[each.tone]}</b><span>{escape(each.text)}</span></li>' for each in verdicts
    )
    return section("What this says", f'<ul class="verdicts">{"".join(items)}</ul>', "verdicts")


def _head(report: Report) -> str:
    model = report.model
    facts = [model.name, model.quantization, model.dtype, f"{model.layers} layers" if model.layers else None]
    size = f"{model.weight_bytes / _GIB:.2f} GiB" if model.weight_bytes else None
    line = " · ".join(fact for fact in (*facts, size) if fact)
    badge = '<span class="badge">simulated devices</span>' if report.simulated_devices else ""
    found = f"{len(report.engine)} figures" if report.engine else f"{len(report.runs)} runs"
    return (
        f"<header><h1>{escape(report.title)}{badge}</h1><p>{escape(line)}</p>"
        f'<p class="dim">{escape(report.started_at)} · suite {escape(report.protocol.suite)} · '
        f"mlxctl {escape(report.tool.version)} · {found}</p></header>"
    )


def _figures(report: Report) -> Iterator[str]:
    """Two in a row; one that is left over stands in the middle of its own."""
    drawn = figures(report)
    for index, each in enumerate(drawn):
        kind = ' class="alone"' if index == len(drawn) - 1 and index % 2 == 0 else ""
        body = f"<figure{kind}>{each.body}<figcaption>{escape(each.caption)}</figcaption></figure>"
        yield section(each.title, body, each.key)


def _results(report: Report) -> str:
    rows = []
    for result in report.results:
        summary, interval = result.summary, result.summary.interval
        mark = " (launches differ)" if interval and interval.method == "launches" else ""
        rows.append(
            (
                result.workload,
                str(report.workload(result.workload).depth),
                BY_NAME[result.metric].title,
                str(result.devices or "-"),
                str(summary.n),
                f"{figure(summary.mean)} {result.unit}",
                f"{figure(interval.low)} to {figure(interval.high)}{mark}" if interval else "too few runs",
                figure(summary.median),
                f"{figure(summary.lower_quartile)} to {figure(summary.upper_quartile)}",
            )
        )
    head = ("workload", "depth", "metric", "devices", "n", "mean", "95 % interval", "median", "quartiles")
    return section("All figures", table(head, rows), "figures")


def _scaling(report: Report) -> str:
    rows = [
        (
            each.workload,
            BY_NAME[each.metric].title,
            f"{each.devices} against {each.baseline}",
            f"{each.speed_up:.2f}x",
            f"{each.interval.low:.2f} to {each.interval.high:.2f}" if each.interval else "too few runs",
            f"{each.ideal:.2f}x",
            "-" if each.law is None else f"{each.law:.2f}x",
            f"{each.efficiency:.0%}",
            "-" if each.serial_fraction is None else f"{each.serial_fraction:.2f}",
        )
        for each in report.scaling
    ]
    head = (
        "workload",
        "metric",
        "devices",
        "speed-up",
        "95 % interval",
        "ideal",
        "law",
        "efficiency",
        "serial fraction",
    )
    note = (
        "<p class='dim'>Law: what a pipeline can give at as many sequences in all, t(S) / t(S/N), from the fewest "
        "devices' own runs. Serial fraction: Karp and Flatt.</p>"
    )
    return section("What more devices give", table(head, rows) + note if rows else "", "speed-up")


def _against(report: Report) -> str:
    rows = [
        (
            each.workload,
            BY_NAME[each.metric].title,
            str(each.devices),
            f"{figure(each.measured)} {BY_NAME[each.metric].unit}",
            figure(each.predicted) if each.predicted else "-",
            f"{each.measured / each.predicted - 1:+.0%}" if each.predicted else "-",
            figure(each.roofline) if each.roofline else "-",
            f"{each.roofline_share:.0%}" if each.roofline_share is not None else "-",
            each.limiter or "unknown",
        )
        for each in report.against
    ]
    head = ("workload", "metric", "devices", "measured", "predicted", "off by", "roofline", "of it", "limited by")
    return section("Against the plan and the roofline", table(head, rows), "against")


def _equality(report: Report) -> str:
    rows = [
        (
            each.workload,
            str(each.index),
            str(each.devices),
            str(each.at_character),
            each.here,
            each.there,
            "unknown" if each.logit_margin is None else f"{each.logit_margin:.4f}",
        )
        for each in report.equality.differences[:50]
    ]
    head = ("workload", "prompt", "devices", "from character", "text", "on the fewest devices", "logit margin")
    return section("Answers that differ", table(head, rows), "equality")


def _links(report: Report) -> str:
    rows = [
        (
            link.source,
            link.target,
            link.type or "unknown",
            f"{link.rtt_p50_s * 1e6:.0f} µs" if link.rtt_p50_s else "-",
            f"{link.rtt_p99_s * 1e6:.0f} µs" if link.rtt_p99_s else "-",
            f"{link.bytes_per_s / 1e6:.0f} MB/s" if link.bytes_per_s else "-",
        )
        for link in report.links
    ]
    if not rows and report.links_fault is not None:
        return section("Links", f"<p class='dim'>Not measured: {escape(report.links_fault)}</p>", "links")
    return section("Links", table(("from", "to", "type", "RTT p50", "RTT p99", "bandwidth"), rows), "links")


def _hosts(report: Report) -> str:
    rows = []
    for host in report.hosts:
        bandwidth = host.bandwidth_bytes_per_s
        thermal = host.thermal
        heat = "no source" if thermal is None else f"{thermal.power or '-'}, {thermal.warning or 'no warning'}"
        rows.append(
            (
                host.name,
                ", ".join(host.nodes),
                f"{host.chip}, {host.cores} cores" if host.cores else host.chip,
                f"{host.memory_bytes / _GIB:.1f} GiB",
                f"{bandwidth / 1e9:.1f} GB/s ({host.bandwidth_source})" if bandwidth else "unknown",
                host.os,
                ", ".join(f"{name} {version}" for name, version in host.versions.items()),
                "unknown" if host.load_1m is None else f"{host.load_1m:.2f}",
                heat,
            )
        )
    head = ("machine", "nodes", "chip", "memory", "memory bandwidth", "system", "versions", "load", "power and heat")
    return section("Machines", table(head, rows), "hosts")


def _energy(report: Report) -> str:
    if report.energy is None:
        return f"not measured: {report.energy_fault or 'no source'}"
    return (
        "; ".join(
            f"launch {each.visit + 1} ({each.devices} devices): {each.joules:.0f} J in {each.seconds_s:.0f} s, "
            f"{each.watts:.1f} W, for {each.prompt_tokens} prompt and {each.generated_tokens} generated tokens"
            for each in report.energy
        )
        + f" (CPU, GPU and Neural Engine of this machine by {report.energy[0].source}, all that ran there included)"
    )


def _method(report: Report) -> str:
    protocol, tool = report.protocol, report.tool
    lines = {
        "seed": str(protocol.seed),
        "launches": ", ".join(map(str, protocol.plan)) + " devices, in this order",
        "warm-up": protocol.warm_up,
        "stop": protocol.stop,
        "sampling": f"temperature {protocol.temperature:g}",
        "energy": _energy(report),
        "tool": f"mlxctl {tool.version}, commit {tool.commit or 'unknown'}{' with changes' if tool.dirty else ''}",
        "command": " ".join(report.argv),
        **report.definitions,
    }
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines.items())
    profile = (
        f"<details><summary>profile</summary><pre>{escape(report.profile)}</pre></details>" if report.profile else ""
    )
    return section("Method and definitions", f"<dl>{items}</dl>{profile}", "method")
