"""`mlxctl doctor`: is everything as `up` needs it, on every node; what mends what is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import console, print_json, say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mlxctl.launch.doctor import Finding, LinkMeasurement, Report

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skip": ("-", "dim")}
_WIDE_COLUMNS = 3  # so many machines' details fit side by side


def doctor(
    profile: Annotated[str | None, typer.Argument(help="a profile; default: two workers on this machine")] = None,
    local: Annotated[bool, typer.Option("--local", help="every node as a process on this machine")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="end and remove what earlier clusters of ours left")] = False,
    as_json: Annotated[bool, typer.Option("--json", help='the report as "mlxctl.doctor/1"')] = False,
) -> None:
    """Check nodes, links and ports; say what mends each failure."""
    import asyncio

    from mlxctl.launch.doctor import diagnose
    from mlxctl.profile import load_profile

    chosen = load_profile(profile)
    chosen = chosen.emulated_locally() if local else chosen
    report = asyncio.run(diagnose(chosen, say, fix=fix))
    if as_json:
        print_json(report.to_document())
    else:
        out = console()
        for part in render(report):
            out.print(part)
    if not report.is_ok:
        raise SystemExit(1)


def render(report: Report) -> Iterator[RenderableType]:
    """The report as a person reads it: who and what, the links, then what to do."""
    from rich.text import Text

    yield _checks(report)
    links = [link for link in report.links if link.medium != "loopback"]
    if links:
        yield _links(links)
    problems = [finding for finding in report.findings if finding.level in ("warn", "fail")]
    for finding in problems:
        yield from _problem(finding)
    failures = sum(finding.level == "fail" for finding in problems)
    ending = "nothing stands in the way of mlxctl up" if report.is_ok else f"{failures} to be mended before mlxctl up"
    warnings = len(problems) - failures
    yield Text(f"{report.profile}: {ending}{f', {warnings} warnings' if warnings else ''} ({report.took_s:.1f} s)")


def _checks(report: Report) -> Table:
    """One row per check, one column per machine."""
    from rich.table import Table
    from rich.text import Text

    from mlxctl.launch.doctor import CHECKS, HERE

    columns = [HERE, *report.nodes]
    found = {(finding.check, finding.node): finding for finding in report.findings}
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column, overflow="fold")
    for check, title in CHECKS.items():
        row = [found.get((check, column)) for column in columns]
        if any(finding is not None and finding.level != "skip" for finding in row):
            table.add_row(Text(title), *(_cell(finding, len(columns) <= _WIDE_COLUMNS) for finding in row))
    return table


def _cell(finding: Finding | None, wide: bool) -> RenderableType:
    from rich.text import Text

    if finding is None:
        return Text("")
    mark, style = _MARKS[finding.level]
    shows = wide and finding.level != "skip"
    return Text.assemble((mark, style), f" {finding.detail}" if shows else "")


def _links(links: Sequence[LinkMeasurement]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from mlxctl.launch.doctor.judge import rate

    table = Table(box=None, pad_edge=False)
    for title in ("link", "round trip", "bandwidth", "through"):
        table.add_column(title, justify="right" if title in ("round trip", "bandwidth") else "left")
    for link in links:
        way = Text(f"{link.medium} {link.interface}".strip())
        ends = Text(f"{link.source} → {link.target}")
        table.add_row(ends, f"{link.rtt_s * 1e3:.2f} ms", rate(link.bytes_per_s), way)
    return table


def _problem(finding: Finding) -> Iterator[RenderableType]:
    from rich.text import Text

    from mlxctl.launch.doctor import CHECKS

    mark, style = _MARKS[finding.level]
    yield Text.assemble((mark, style), " ", (finding.node, "bold"), f": {CHECKS[finding.check]}: {finding.detail}")
    if finding.mend:
        yield Text(f"    mend: {finding.mend}")
