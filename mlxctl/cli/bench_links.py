"""`mlxctl bench links`: what the connections between nodes give, pair by pair and over all, without a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import console, is_fancy, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlxctl.bench.links import Found, LinkSuite, Progress
    from mlxctl.bench.links_report import LinksReport
    from mlxctl.profile import Profile

SUFFIXES = (".json", ".html", ".md", ".csv", ".yaml")
INTERRUPTED_EXIT = 130


def links(
    profile: Annotated[str | None, typer.Argument(help="a profile; default: two processes here")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few sizes, up to 16 MiB")] = False,
    local: Annotated[bool, typer.Option("--local", help="every node as a process on this machine")] = False,
    mlx_distributed: Annotated[
        bool | None,
        typer.Option(
            "--mlx-distributed/--no-mlx-distributed",
            help="also mx.distributed; default: on this machine only, as it opens ports without authentication",
        ),
    ] = None,
    accept_new_host_keys: Annotated[
        bool, typer.Option("--accept-new-host-keys", help="trust machines not seen before")
    ] = False,
    wheelhouse: Annotated[Path | None, typer.Option(help="folder of wheels for nodes without internet")] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", help="report: .json .html .md .csv; .yaml: facts for plan --simulate"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report on stdout")] = False,
) -> None:
    """Measure messages between all nodes: latency, bandwidth, collectives; over gRPC and mx.distributed."""
    from mlxctl.bench.link_probe import kept_of_report
    from mlxctl.bench.links import QUICK, STANDARD, Found, make_report
    from mlxctl.bench.links_journal import LinksJournal
    from mlxctl.cli.bench_output import journal_path
    from mlxctl.errors import MlxctlError, UsageError
    from mlxctl.launch.measured_links import keep_links
    from mlxctl.profile import load_profile

    chosen = load_profile(profile)
    chosen = chosen.emulated_locally() if local else chosen
    if len(chosen.nodes) < 2:
        raise UsageError(
            f"profile {chosen.name} has one node: there is no link to measure", hint="such as: 2xm4 --local"
        )
    files = _outputs(output or [], chosen.name)
    suite, found = QUICK if quick else STANDARD, Found()
    title = f"links of {chosen.name}"
    fault: BaseException | None = None
    try:
        with LinksJournal(journal_path(files)) as journal, _progress() as progress:
            found.on_nodes = lambda: journal.begin(make_report(title, suite, found, None))
            found.on_entry = journal.add
            _run(chosen, suite, found, progress, mlx_distributed, accept_new_host_keys, wheelhouse)
    except (KeyboardInterrupt, MlxctlError) as error:
        fault = error
    if not found.pairs and fault is not None:
        raise fault
    report = make_report(title, suite, found, fault)
    keep_links(kept_of_report(report, chosen))
    if as_json:
        print(report.to_json(), end="")
    else:
        console().print(render(report))
    _write(report, files)
    if isinstance(fault, MlxctlError):
        raise fault
    if fault is not None:
        raise typer.Exit(INTERRUPTED_EXIT)


def _run(
    profile: Profile,
    suite: LinkSuite,
    found: Found,
    progress: Progress,
    others: bool | None,
    accept_new_host_keys: bool,
    wheelhouse: Path | None,
) -> None:
    import asyncio

    from mlxctl.bench.links import measure
    from mlxctl.launch.events import PhaseEvent
    from mlxctl.launch.ranks import running_ranks

    def report(event: PhaseEvent) -> None:
        if event.node is None and event.state == "running":
            progress(event.title.lower(), 0, 1)

    async def run() -> None:
        async with running_ranks(
            profile, report, accept_new_host_keys=accept_new_host_keys, wheelhouse=wheelhouse
        ) as group:
            await measure(group, suite, found, progress, others=others)

    asyncio.run(run())


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr; without a terminal a line whenever something else is measured."""
    if not is_fancy(sys.stderr):
        last = ""

        def tell(what: str, done: int, of: int) -> None:
            nonlocal last
            title = what.partition(":")[0]
            if title != last:
                say(f"{title} …")
            last = title

        yield tell
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("")
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)


def render(report: LinksReport) -> RenderableType:
    """Matrices, curves as rows, sentences."""
    from rich.console import Group
    from rich.text import Text

    from mlxctl.bench.links_report import slowest_pairs
    from mlxctl.bench.links_tables import COLLECTIVE_HEAD, PAIR_HEAD, collective_rows, matrix, pair_row
    from mlxctl.cli.bench_summary import verdict_line

    parts: list[RenderableType] = [Text(report.title, "bold")]
    for state in report.transports:
        if state.reason is None:
            head = ("from \\ to", *(node.name for node in report.nodes))
            title = f"{state.title}: round trip of the smallest message, best bandwidth"
            parts += [Text(f"\n{title}", "dim"), _table(head, matrix(report, state.name))]
    if len(report.nodes) > 2:
        parts.append(Text("\nThe slowest pair of each transport:", "dim"))
    shown = slowest_pairs(report)
    parts += [Text(""), _table(PAIR_HEAD, [pair_row(report, each) for each in shown])]
    parts += [Text(""), _table(COLLECTIVE_HEAD, collective_rows(report)), Text("")]
    parts += [verdict_line(sentence) for sentence in report.verdicts]
    return Group(*parts)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]] | list[list[str]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in head:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _outputs(asked: list[Path], name: str) -> list[Path]:
    """The files to write; one JSON here if nobody asked for any. Raises UsageError before anything is measured."""
    from mlxctl.cli.bench_output import check_suffixes

    files = asked or [Path(f"links-{name}-{datetime.now():%Y%m%d-%H%M%S}.json")]
    check_suffixes(files, SUFFIXES)
    return files


def show_links(report: LinksReport, files: list[Path]) -> None:
    """Show a report that was written before, and write it to `files`. Raises UsageError."""
    from mlxctl.cli.bench_output import check_suffixes

    check_suffixes(files, SUFFIXES)
    console().print(render(report))
    _write(report, files)


def _write(report: LinksReport, files: list[Path]) -> None:
    from mlxctl.bench.links_html import to_html
    from mlxctl.bench.links_tables import to_csv, to_facts, to_markdown
    from mlxctl.cli.bench_output import write_text

    writers: dict[str, Callable[[LinksReport], str]] = {
        ".json": lambda report: report.to_json(),
        ".html": to_html,
        ".md": to_markdown,
        ".csv": to_csv,
        ".yaml": to_facts,
    }
    for file in files:
        write_text(file, writers[file.suffix](report))
