"""`mlxctl status`: what runs, stage by stage. Its table also ends `mlxctl up`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxctl.cli.output import (
    console,
    format_bytes,
    format_duration,
    format_rate,
    is_fancy,
    print_json,
    reader_may_leave,
)
from mlxctl.errors import Degraded, MlxctlError, NotRunning, UsageError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

    from mlxctl.cli.clusters import Known

SCHEMA = "mlxctl.status/1"
LIST_SCHEMA = "mlxctl.clusters/1"
WATCH_INTERVAL_S = 1.0
LOG_LINES = 5  # of each lost stage's node
_ANY_WIDTH = 1000
_STYLES = {"ready": "green", "starting": "yellow", "draining": "yellow"}


def status(
    name: Annotated[str | None, typer.Argument(help="the cluster; default: the only one, or a list of all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the status document; with --watch one a line")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="show it anew until Ctrl-C")] = False,
    interval: Annotated[
        float | None, typer.Option(min=0.1, show_default="1", help="seconds between two looks with --watch")
    ] = None,
) -> None:
    """Show stages, layers, memory, speed and queue of a cluster. Exit code 3: nothing runs; 5: degraded."""
    if watch:
        with reader_may_leave():
            _watch(name, interval or WATCH_INTERVAL_S, as_json=as_json)
        return
    if interval is not None:
        raise UsageError("--interval belongs to --watch", hint="mlxctl status --watch --interval S")
    document = read(name)
    if as_json:
        print_json(document)
    else:
        console().print(render(document))
    if (code := exit_code(document)) != 0:
        raise typer.Exit(code)


def read(name: str | None) -> dict[str, Any]:
    """The document to show: of the cluster that is meant, or a list where several might be. Raises NotRunning."""
    from mlxctl.cli.clusters import all_known, known, not_running

    if name is not None:
        cluster = known(name)
        if cluster is None or cluster.life == "gone":
            raise not_running(name, cluster)
        return _document(cluster)
    clusters = all_known()
    alive = [cluster for cluster in clusters if cluster.life != "gone"]
    if not alive:
        raise not_running(None, clusters[0] if clusters else None)
    if len(alive) == 1:
        return _document(alive[0])
    return {"schema": LIST_SCHEMA, "clusters": [_row(cluster) for cluster in clusters]}


def exit_code(document: Mapping[str, Any]) -> int:
    """What a script learns: serving 0, not (yet) serving 3, a stage lost 5."""
    codes = {"starting": NotRunning.exit_code, "degraded": Degraded.exit_code}
    return codes.get(document.get("state", ""), 0)


def _document(cluster: Known) -> dict[str, Any]:
    if cluster.life == "starting":
        return {"schema": SCHEMA, "cluster": cluster.name, "state": "starting", "stages": []}
    return cluster.status()


def _row(cluster: Known) -> dict[str, Any]:
    if cluster.life == "gone":
        return {"cluster": cluster.name, "state": "gone"}
    try:
        document = _document(cluster)
    except MlxctlError as error:
        return {"cluster": cluster.name, "state": "unknown", "problem": error.line}
    keys = ("cluster", "state", "model", "api", "uptime_s", "tokens_per_s", "problem")
    return {key: document[key] for key in keys if key in document} | {"stages": len(document["stages"])}


def _watch(name: str | None, interval_s: float, *, as_json: bool) -> None:
    if as_json:
        _repeat(lambda: print_json(read(name), one_line=True), interval_s)
    elif not is_fancy(sys.stdout):
        out = console()
        _repeat(lambda: out.print(render(read(name)), end="\n\n"), interval_s)
    else:
        from rich.live import Live

        with Live(render(read(name)), console=console(), screen=True, auto_refresh=False) as live:
            _repeat(lambda: live.update(render(read(name)), refresh=True), interval_s)


def _repeat(look: Callable[[], None], interval_s: float) -> None:
    while True:
        look()
        time.sleep(interval_s)


def render(document: Mapping[str, Any]) -> RenderableType:
    """A document of `read` for people."""
    from rich.console import Group

    if document["schema"] == LIST_SCHEMA:
        return _clusters_table(document["clusters"])
    lines = [_headline(document), *_figures(document)]
    table: list[RenderableType] = ["", stages_table(document)] if document["stages"] else []
    return Group(*lines, *table, *_last_words(document))


def _headline(document: Mapping[str, Any]) -> RenderableType:
    from rich.text import Text

    line = Text.assemble((document["cluster"], "bold"), " is ", (document["state"], _style(document["state"])))
    if "model" in document:
        line.append(f": {document['model']} at {document['api']}/v1")
    if document.get("problem"):
        line.append(f"\nproblem: {document['problem']}", "red")
    return line


def _figures(document: Mapping[str, Any]) -> Sequence[str]:
    if "requests" not in document:
        return []
    requests = document["requests"]
    counts = ", ".join(f"{requests[key]} {key}" for key in ("running", "waiting", "completed", "failed", "cancelled"))
    speed = f"{format_rate(document['tokens_per_s'])}, {document['tokens_generated']} tokens so far"
    up = f"up {format_duration(document['uptime_s'])}"
    return [
        f"{up}, context {document['context']}, {document['concurrency']} at once, epoch {document['epoch']}",
        f"requests: {counts}",
        f"speed: {speed}",
        *_last_steps(document["steps"]["decode_medians"]),
    ]


def _last_steps(medians_s: Mapping[str, float | None]) -> Iterator[str]:
    if (step_s := medians_s["round_trip_s"]) is not None:
        compute_ms, wire_ms = 1000 * (medians_s["compute_s"] or 0.0), 1000 * (medians_s["wire_s"] or 0.0)
        yield f"decode steps: {1000 * step_s:.1f} ms each, {compute_ms:.1f} computing, {wire_ms:.1f} on the wire"


def stages_table(document: Mapping[str, Any]) -> RenderableType:
    """One row per stage of a status document; memory is what MLX holds now, of the stage's budget."""
    return FittingTable([_stage_row(stage) for stage in document["stages"]], ("KV", "weights", "busy", "memory/budget"))


def _stage_row(stage: Mapping[str, Any]) -> dict[str, str]:
    first, end = stage["layers"]
    return {
        "stage": str(stage["stage"]),
        "node": stage["node"],
        "layers": f"{first}-{end - 1}",
        "weights": format_bytes(stage["weight_bytes"]),
        "KV": format_bytes(stage["kv_bytes"]),
        "memory/budget": f"{format_bytes(stage['active_bytes'])}/{format_bytes(stage['budget_bytes'])}",
        "busy": f"{stage['busy_share']:.0%}",
        "state": f"[{_style(stage['state'])}]{stage['state']}[/]",
    }


def _last_words(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The end of the logs of those nodes whose stages are lost."""
    from rich.text import Text

    from mlxctl.chat.visible import visible
    from mlxctl.cli.log_lines import last_lines
    from mlxctl.paths import logs_dir

    for stage in document["stages"]:
        if stage["state"] == "lost" and (lines := last_lines(logs_dir(document["cluster"]), stage["node"], LOG_LINES)):
            yield Text(f"\nlast lines of {stage['node']}'s log:", style="dim")
            yield from (Text(f"  | {visible(line.text)}", style="dim") for line in lines)


def _clusters_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    return FittingTable([_cluster_row(row) for row in rows], ("up", "stages", "model"))


def _cluster_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "cluster": row["cluster"],
        "state": f"[{_style(row['state'])}]{row['state']}[/]",
        "model": row.get("model", ""),
        "stages": str(row.get("stages", "")),
        "endpoint": f"{row['api']}/v1" if "api" in row else "",
        "up": format_duration(row["uptime_s"]) if "uptime_s" in row else "",
    }


class FittingTable:
    """Rows under the names of their columns; where the terminal is too narrow, columns go in the order of `spared`."""

    def __init__(self, rows: Sequence[Mapping[str, str]], spared: Sequence[str]) -> None:
        self._rows = rows
        self._spared = spared

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement

        columns = list(self._rows[0])
        for spared in self._spared:
            if (
                Measurement.get(console, options.update(width=_ANY_WIDTH), self._table(columns)).maximum
                > options.max_width
            ):
                columns.remove(spared)
        yield self._table(columns)

    def _table(self, columns: Sequence[str]) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in self._rows:
            table.add_row(*(row[column] for column in columns))
        return table


def _style(state: str) -> str:
    return _STYLES.get(state, "red")
