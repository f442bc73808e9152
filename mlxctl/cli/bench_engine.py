"""`mlxctl bench engine`: several stages against one, against mlx-lm, against mlx_lm.server; and the wire."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import say

if TYPE_CHECKING:
    from mlxctl.bench.report import EngineFigure
    from mlxctl.bench_engine.figures import EngineBench


def engine(
    model: Annotated[str, typer.Option(help="a model that this machine computes")] = "canary",
    stages: Annotated[int, typer.Option(min=2, max=8, help="workers, each pinned to a core")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="of each figure, its sides measured in turn")] = 5,
    streams: Annotated[str, typer.Option(help="totals of streams, such as 8,16,32")] = "8,16,32",
    only: Annotated[
        str | None, typer.Option(help="some of single,streams,prefill,product,server,chat,wire; default: all")
    ] = None,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="report file: .json .html .md .csv; may be repeated")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report on stdout")] = False,
) -> None:
    """Measure the engine on this machine: stages, streams and prompts against one stage and mlx-lm, the whole product
    against mlx_lm.server, and the wire between stages.
    """
    from mlxctl.bench_engine.figures import EngineBench
    from mlxctl.bench_engine.report import EngineHead, engine_report
    from mlxctl.checkpoint import resolve_model
    from mlxctl.cli.bench import finish
    from mlxctl.cli.bench_output import outputs
    from mlxctl.errors import MlxctlError

    totals, groups = _totals(streams, stages), _groups(only, model)
    files = outputs(output or [], "engine")
    bench = EngineBench(model, resolve_model(model), stages, rounds, totals, groups)
    say("looking at the machine")
    head = EngineHead.now(bench)
    figures: list[EngineFigure] = []
    try:
        _measure(bench, figures)
    except KeyboardInterrupt:
        say("interrupted; what was measured is kept")
        finish(engine_report(head, figures, "interrupted"), files, as_json=as_json)
    except MlxctlError:
        if figures:
            finish(engine_report(head, figures, "failed"), files, as_json=as_json)
        raise
    finish(engine_report(head, figures, "complete"), files, as_json=as_json)


def _measure(bench: EngineBench, figures: list[EngineFigure]) -> None:
    """Put figures into `figures` as they come."""
    import asyncio

    async def measure() -> None:
        async for figure in bench.figures(say):
            figures.append(figure)

    asyncio.run(measure())


def _totals(text: str, stages: int) -> tuple[int, ...]:
    """Raises UsageError."""
    from mlxctl.cli.bench_options import numbers
    from mlxctl.errors import UsageError

    totals = numbers("--streams", text, int) or ()
    if min(totals) < stages:
        raise UsageError(f"--streams {text}: {stages} stages need totals of {stages} or more", hint="such as: 8,16")
    return totals


def _groups(text: str | None, model: str) -> tuple[str, ...]:
    """Raises UsageError."""
    from mlxctl.bench_engine.figures import AGAINST_SERVER, GROUPS
    from mlxctl.errors import UsageError

    random = model.startswith("random:")
    if text is None:
        return tuple(group for group in GROUPS if not (random and group in AGAINST_SERVER))
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(GROUPS):
        raise UsageError(f"--only {text}: there is no {min(unknown)}", hint=f"some of {','.join(GROUPS)}")
    if random and (without := set(chosen) & AGAINST_SERVER):
        raise UsageError(f"--only {min(without)}: mlx_lm.server needs weights in files, {model} has none")
    return chosen
