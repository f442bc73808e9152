"""`mlxctl bench engine`: what several stages give over one and over mlx-lm alone, on this machine, without HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import console, say

if TYPE_CHECKING:
    from mlxctl.bench_engine.figures import EngineBench, Figure

SCHEMA = "mlxctl.bench-engine/1"


def engine(
    model: Annotated[str, typer.Option(help="a model that this machine computes")] = "canary",
    stages: Annotated[int, typer.Option(min=2, max=8, help="workers, each pinned to a core")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="of each figure, its sides measured in turn")] = 5,
    streams: Annotated[str, typer.Option(help="totals of streams, such as 8,16,32")] = "8,16,32",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="every ratio, as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="every ratio on stdout")] = False,
) -> None:
    """Measure the engine alone: one stream, many streams, a long prompt, on one stage, on several, and in mlx-lm."""
    import asyncio

    from mlxctl.bench_engine.figures import EngineBench
    from mlxctl.checkpoint import resolve_model
    from mlxctl.errors import UsageError

    try:
        totals = tuple(int(total) for total in streams.split(","))
    except ValueError:
        totals = ()
    if not totals or min(totals) < stages:
        raise UsageError(
            f"--streams {streams}: numbers from {stages} up, with commas between them", hint="such as: 8,16"
        )
    bench = EngineBench(model, resolve_model(model), stages, rounds, totals)
    figures = asyncio.run(_measured(bench))
    document = {"schema": SCHEMA, "model": model, "stages": stages, "figures": [each.as_json() for each in figures]}
    if output is not None:
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(document, indent=1))
    else:
        _show(figures)


async def _measured(bench: EngineBench) -> list[Figure]:
    return [figure async for figure in bench.figures(say)]


def _show(figures: list[Figure]) -> None:
    from rich.table import Table

    table = Table("figure", "median", "rounds", "at least", "")
    for figure in figures:
        wanted = "" if figure.wanted is None else f"{figure.wanted:.2f}"
        spread = f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}"
        table.add_row(figure.name, f"{figure.median:.3f}", spread, wanted, figure.note)
    console().print(table)
