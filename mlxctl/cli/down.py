"""`mlxctl down`: drain, stop, verify; also when the coordinator is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import say
from mlxctl.errors import UsageError

if TYPE_CHECKING:
    from mlxctl.launch.teardown import TeardownReport


def down(
    name: Annotated[str | None, typer.Argument(help="the cluster; default: the only one there is")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every cluster")] = False,
    force: Annotated[bool, typer.Option("--force", help="kill at once, without draining")] = False,
    drain: Annotated[
        float | None, typer.Option(min=0, show_default="5", help="seconds that running requests get to end")
    ] = None,
) -> None:
    """Drain a cluster, stop its workers, check that nothing is left."""
    from mlxctl.cluster import DRAIN_S
    from mlxctl.launch.leftovers import clear_leftovers
    from mlxctl.launch.teardown import take_down

    if force and drain is not None:
        raise UsageError("--force does not drain, so --drain means nothing beside it", hint="give one of them")
    drain_s = DRAIN_S if drain is None else drain
    reports = [_tell(take_down(chosen, drain_s, force=force), force=force) for chosen in _chosen(name, everything)]
    if everything and (cleared := clear_leftovers(0.0)):
        say(f"removed what {len(cleared)} private clusters left that were killed")
    if any(report.unclean for report in reports):
        raise typer.Exit(1)


def _tell(report: TeardownReport, *, force: bool) -> TeardownReport:
    name = report.name
    if report.ran:
        how = "" if report.by_coordinator else " without its coordinator" if not force else " by force"
        killed = f", ended {len(report.killed)} processes" if report.killed else ""
        left = "" if report.unclean else "; no process of it is left"
        say(f"{name} is down{how} after {report.took_s:.1f} s{killed}{left}")
    elif not report.unclean:
        say(f"{name}: nothing was running" + (" any more; its state is cleared" if report.known else ""))
    for node in report.nodes:
        if node.problem is None:
            ended = f"ended {', '.join(f'pid {pid}' for pid in node.ended)}; " if node.ended else ""
            say(f"  {node.node}: {ended}nothing of it is left there")
        else:
            say(f"  {node.problem.line}")
    if report.unclean:
        again = f"mlxctl down {name} again once it can be reached"
        say(f"  hint: what still runs there ends within 10 s; to be sure: {again}")
    return report


def _chosen(name: str | None, everything: bool) -> list[str]:
    """Raises UsageError if it is not clear which one is meant."""
    from mlxctl.launch.state import list_clusters

    if name is not None and everything:
        raise UsageError(f"--all means every cluster, so {name} means nothing beside it", hint="give one of them")
    if name is not None:
        return [name]
    known = list_clusters()
    if not known:
        say("no cluster is running")
    if len(known) > 1 and not everything:
        raise UsageError(f"several clusters are running: {', '.join(known)}", hint="name one, or say --all")
    return known
