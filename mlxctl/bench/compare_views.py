"""A comparison as HTML with a forest plot, Markdown, CSV and JSON. Pure; called by bench compare."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from html import escape

from mlxctl.bench.compare import Comparison, Row, Verdict
from mlxctl.bench.html import page, section, table
from mlxctl.bench.svg import Plot, nice_ticks
from mlxctl.bench.tables import figure

COLOURS: dict[Verdict, str] = {"improved": "c3", "regressed": "c2", "no evidence": "c4", "not compared": "c4"}
HEAD = ("workload", "metric", "devices", "A", "B", "change", "95 % interval", "p (Holm)", "detectable", "verdict")
ROW_HEIGHT = 24.0
WIDEST = 1.0
"""Changes beyond this share are drawn at the edge."""


def cells(row: Row) -> tuple[str, ...]:
    """One row, as text under HEAD."""
    interval = f"{row.interval.low:+.1%} to {row.interval.high:+.1%}" if row.interval else "-"
    return (
        row.workload,
        row.metric,
        str(row.devices or "-"),
        "-" if row.a is None else f"{figure(row.a)} {row.unit}",
        "-" if row.b is None else f"{figure(row.b)} {row.unit}",
        "-" if row.change is None else f"{row.change:+.1%}",
        interval,
        "-" if row.p is None else f"{row.p:.3f}",
        "-" if row.detectable is None else f"±{row.detectable:.1%}",
        row.verdict + (f": {row.reason}" if row.reason else ""),
    )


def to_json(comparison: Comparison) -> str:
    """`mlxctl.bench-compare/1`."""
    return comparison.model_dump_json(by_alias=True, indent=1) + "\n"


def to_csv(comparison: Comparison) -> str:
    """A row per metric."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEAD)
    writer.writerows(cells(row) for row in comparison.rows)
    return out.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """A table, and why things were not compared."""
    lines = [f"# {comparison.b} against {comparison.a}", ""]
    lines += [f"- not comparable: {each}" for each in comparison.differences]
    lines += [f"- {each}" for each in comparison.notes]
    lines += ["", f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in comparison.rows]
    return "\n".join(lines) + "\n"


def to_html(comparison: Comparison) -> str:
    """One self-contained page."""
    title = f"{comparison.b} against {comparison.a}"
    reasons, notes = (
        "".join(f'<li class="warning"><b>!</b><span>{escape(each)}</span></li>' for each in each_list)
        for each_list in (comparison.differences, comparison.notes)
    )
    parts = [
        f"<header><h1>{escape(title)}</h1></header>",
        section("Not comparable", f'<ul class="verdicts">{reasons}</ul>' if reasons else ""),
        section("In doubt", f'<ul class="verdicts">{notes}</ul>' if notes else ""),
        section("Change from A to B", _forest(comparison), "forest"),
        section("All figures", table(HEAD, [cells(row) for row in comparison.rows]), "figures"),
    ]
    return page(title, "".join(parts))


def _forest(comparison: Comparison) -> str:
    rows = [row for row in comparison.rows if row.change is not None]
    if not rows:
        return ""
    reach = max(max(abs(row.change or 0), *map(abs, _span(row))) for row in rows)
    reach = min(max(reach * 1.1, 0.05), WIDEST)
    height = ROW_HEIGHT * len(rows) + 60
    plot = Plot(
        "change",
        "",
        (-reach, reach),
        (0.0, float(len(rows))),
        x_ticks=[(tick, f"{tick:+.0%}") for tick in nice_ticks(-reach, reach, 4) if abs(tick) <= reach],
        height=height,
        left=190.0,
        y_axis=False,
    )
    plot.line([(0.0, 0.0), (0.0, float(len(rows)))], "c4", dashed=True)
    for place, row in enumerate(reversed(rows)):
        y, colour = place + 0.5, COLOURS[row.verdict]
        low, high = (min(max(each, -reach), reach) for each in _span(row))
        plot.line([(low, y), (high, y)], colour)
        plot.dot((min(max(row.change or 0.0, -reach), reach), y), colour, ", ".join(cells(row)))
        plot.margin_note(y, f"{row.workload} {row.metric} x{row.devices or '-'}")
    caption = "Lines are 95 % intervals. Green got better, red worse, grey shows no evidence of either."
    return f"<figure class='wide'>{plot.render('Forest plot')}<figcaption>{caption}</figcaption></figure>"


def _span(row: Row) -> tuple[float, float]:
    return (row.interval.low, row.interval.high) if row.interval else (row.change or 0.0, row.change or 0.0)


WRITERS: dict[str, Callable[[Comparison], str]] = {
    ".json": to_json,
    ".html": to_html,
    ".md": to_markdown,
    ".csv": to_csv,
}
