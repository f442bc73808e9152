"""`mlxctl bench compare`: did it get better or worse, and how sure is that? With an exit code for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import console, say

if TYPE_CHECKING:
    from mlxctl.bench.compare import Comparison, Limit

STYLES = {"improved": "green", "regressed": "bold red", "no evidence": "dim", "not compared": "dim"}
FAILED_EXIT = 1


def compare(
    a: Annotated[Path, typer.Argument(help="a report; also llama-bench's or pytest-benchmark's JSON")],
    b: Annotated[Path, typer.Argument(help="the one to compare with it")],
    fail: Annotated[
        list[str] | None, typer.Option(help="exit with 1 if this got worse, such as 'tg_tps:-3%'; may be repeated")
    ] = None,
    across: Annotated[
        list[str] | None, typer.Option(help="a fact that may differ: chip, model, tool …; may be repeated")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="look at this one only; fewer rows see more; may be repeated")
    ] = None,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="also write .json .html .md .csv; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help='the comparison as "mlxctl.bench-compare/1"')] = False,
) -> None:
    """Compare two reports: change, interval, p-value corrected for all rows, and what could have been seen."""
    from mlxctl.bench.columns import load_columns
    from mlxctl.bench.compare import compare as compared
    from mlxctl.bench.compare import parse_limit
    from mlxctl.bench.compare_views import WRITERS, to_json
    from mlxctl.cli.bench_output import check_suffixes, write_text
    from mlxctl.errors import UsageError

    limits = [parse_limit(text) for text in fail or ()]
    check_suffixes(output or [])
    first, second = load_columns(a), load_columns(b)
    for fact in across or ():
        if fact not in first.facts:
            raise UsageError(f"--across {fact!r} is no fact", hint=f"one of {', '.join(first.facts)}")
    found = compared(first, second, across or (), metric or ())
    if as_json:
        print(to_json(found), end="")
    else:
        _show(found)
    for file in output or ():
        write_text(file, WRITERS[file.suffix](found))
    if _is_broken(found, limits):
        raise typer.Exit(FAILED_EXIT)


def _show(found: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    from mlxctl.bench.compare_views import HEAD, cells

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in HEAD:
        table.add_column(title, no_wrap=title != "verdict")
    for row in found.rows:
        *figures, verdict = cells(row)
        table.add_row(*figures, Text(verdict, STYLES[row.verdict]))
    out = console()
    out.print(f"A {found.a}   B {found.b}")
    for each in found.differences:
        out.print(f"! not comparable: {each}", style="yellow", markup=False)
    for note in found.notes:
        out.print(f"! {note}", style="yellow", markup=False)
    out.print(table)


def _is_broken(found: Comparison, limits: list[Limit]) -> bool:
    """Whether a limit is broken, or could not be judged at all: silence would look like success."""
    broken = False
    for limit in limits:
        rows = [row for row in found.rows if limit.concerns(row) and row.change is not None]
        if not rows:
            say(f"fail: there is no {limit.metric} that could be compared")
            broken = True
        for row in rows:
            name = f"{row.workload} {row.metric} on {row.devices}"
            if limit.is_broken_by(row):
                say(f"fail: {name} changed by {row.change:+.1%}, allowed is {limit.change:+.1%}")
                broken = True
            elif row.detectable is not None and row.detectable > abs(limit.change):
                say(f"note: {name}: a change of {limit.change:+.1%} is too small to be seen with so few or noisy runs")
    return broken
