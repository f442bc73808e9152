"""`mlxctl down`: drain, stop, verify; also when the coordinator is dead."""

from __future__ import annotations

from typing import Annotated

import typer

from mlxctl.cli.output import say


def down(
    name: Annotated[str | None, typer.Argument(help="the cluster; default: the only one there is")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every cluster")] = False,
    force: Annotated[bool, typer.Option("--force", help="kill at once, without draining")] = False,
    drain: Annotated[float, typer.Option(min=0, help="seconds that running requests get to end")] = 5.0,
) -> None:
    """Drain a cluster, stop its workers, check that nothing is left."""
    from mlxctl.launch.teardown import take_down

    for chosen in _chosen(name, everything):
        report = take_down(chosen, drain, force=force)
        if not report.ran:
            say(f"{chosen}: nothing was running" + (" any more; its state is cleared" if report.known else ""))
            continue
        how = "" if report.by_coordinator else " without its coordinator" if not force else " by force"
        killed = f", ended {len(report.killed)} processes" if report.killed else ""
        say(f"{chosen} is down{how} after {report.took_s:.1f} s{killed}; no process of it is left")


def _chosen(name: str | None, everything: bool) -> list[str]:
    """Raises UsageError if it is not clear which one is meant."""
    from mlxctl.errors import UsageError
    from mlxctl.launch.state import list_clusters

    if name is not None:
        return [name]
    known = list_clusters()
    if not known:
        say("no cluster is running")
    if len(known) > 1 and not everything:
        raise UsageError(f"several clusters are running: {', '.join(known)}", hint="name one, or say --all")
    return known
