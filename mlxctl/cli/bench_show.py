"""`mlxctl bench show`: a report again, in another format; or made of the journal of a bench that crashed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlxctl.cli.output import console


def show(
    report: Annotated[Path, typer.Argument(help="a report (.json), or the journal (.jsonl) of a bench that crashed")],
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="also write .json .html .md .csv; may be repeated")
    ] = None,
) -> None:
    """Show a report, write it in other formats, or make one of the journal of a bench that crashed."""
    from mlxctl.bench.build import build
    from mlxctl.bench.journal import read_journal
    from mlxctl.bench.links_journal import read_links_journal
    from mlxctl.bench.links_report import parse_links
    from mlxctl.bench.load import load_report, read_json
    from mlxctl.cli.bench_links import show_links
    from mlxctl.cli.bench_output import outputs, write_all
    from mlxctl.cli.bench_summary import render

    is_journal = report.suffix == ".jsonl"
    links = read_links_journal(report) if is_journal else parse_links(read_json(report), str(report))
    if links is not None:
        show_links(links, output or [])
        return
    loaded = build(read_journal(report)) if is_journal else load_report(report)
    console().print(render(loaded))
    if output:
        write_all(loaded, outputs(output, loaded.id))
