"""`mlxctl logs`: the logs of a cluster's nodes in one stream; also of a cluster that is gone."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from mlxctl.chat.visible import visible
from mlxctl.cli.log_lines import LogLine, LogStream, nodes_in, parse_since
from mlxctl.cli.output import is_fancy, reader_may_leave
from mlxctl.errors import NotRunning, UsageError

POLL_S = 0.2
_COLOURS = (36, 33, 35, 32, 34, 31)


def logs(
    name: Annotated[str | None, typer.Argument(help="the cluster; default: the only one")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="wait for more until Ctrl-C")] = False,
    node: Annotated[str | None, typer.Option(help="of this node only; the coordinator is `coordinator`")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="30s, 10m, 2h ago, or 2026-11-21T06:31:34")] = None,
) -> None:
    """Show the logs of all nodes, merged by time and labelled."""
    from mlxctl.paths import logs_dir

    start = parse_since(since, datetime.now(UTC)) if since else ""
    folder = logs_dir(name or _only_cluster())
    known = nodes_in(folder)
    if not known:
        raise NotRunning(f"{folder.parent.name} has no logs", hint="mlxctl up")
    if node is not None and node not in known:
        raise UsageError(f"{folder.parent.name} has no log of a node {node!r}", hint=f"nodes: {', '.join(known)}")
    with LogStream(folder, lambda each: node in (None, each)) as stream, reader_may_leave():
        _print_new(stream, start)
        while follow:
            time.sleep(POLL_S)
            _print_new(stream, start)


def _only_cluster() -> str:
    """The running cluster, else the only one that left logs. Raises NotRunning, UsageError."""
    from mlxctl.cli.clusters import running_names
    from mlxctl.paths import clusters_dir

    names = running_names() or sorted(path.parent.name for path in clusters_dir().glob("*/logs"))
    if not names:
        raise NotRunning("no cluster has logs", hint="mlxctl up")
    if len(names) > 1:
        raise UsageError(f"several clusters have logs: {', '.join(names)}", hint="mlxctl logs NAME")
    return names[0]


def _print_new(stream: LogStream, start: str) -> None:
    lines = stream.new_lines()
    width = max(map(len, stream.nodes))
    colours = {node: _COLOURS[i % len(_COLOURS)] for i, node in enumerate(stream.nodes)}
    for line in lines:
        if line.stamp >= start:
            _print(line, width, colours[line.node])
    sys.stdout.flush()


def _print(line: LogLine, width: int, colour: int) -> None:
    label = f"{line.node:<{width}}"
    if is_fancy(sys.stdout):
        sys.stdout.write(f"\x1b[2m{line.stamp}\x1b[0m \x1b[{colour}m{label}\x1b[0m {visible(line.text)}\n")
    else:
        sys.stdout.write(f"{line.stamp} {label} {line.text}\n")
