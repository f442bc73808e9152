"""`mlxctl up`: bring the cluster of a profile up, serve it, say what runs and what to do next."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxctl.cli.output import console, say


def up(
    profile: Annotated[Path | None, typer.Argument(help="a profile; default: two workers on this machine")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="run every node as a process on this machine, its memory as budget")
    ] = False,
    devices: Annotated[int | None, typer.Option(min=1, help="use the first N nodes only")] = None,
    model: Annotated[str | None, typer.Option(help="instead of the profile's model")] = None,
    context: Annotated[int | None, typer.Option(help="instead of the profile's context, in tokens")] = None,
    timeout: Annotated[float | None, typer.Option(min=1, help="give up after this many seconds")] = None,
    recreate: Annotated[
        bool, typer.Option("--recreate", help="take a running cluster of this name down first")
    ] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="stay, and take it down on Ctrl-C")] = False,
    accept_new_host_keys: Annotated[
        bool, typer.Option("--accept-new-host-keys", help="trust machines not seen before; never a changed key")
    ] = False,
    wheelhouse: Annotated[
        Path | None, typer.Option(help="folder of what nodes install, filled by `mlxctl wheelhouse`")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be done, and do nothing")] = False,
) -> None:
    """Bring a cluster up and serve its API."""
    from mlxctl.cli.progress import progress
    from mlxctl.cluster import Cluster
    from mlxctl.profile import load_profile, unknown_variables

    for name in unknown_variables():
        say(f"note: {name} means nothing to mlxctl; the README lists the variables that do")
    overrides: dict[str, Any] = {"model": model, "context": context}
    chosen = load_profile(profile, {key: value for key, value in overrides.items() if value is not None})
    chosen = chosen.first(devices) if devices is not None else chosen
    chosen = chosen.emulated_locally() if local else chosen
    if dry_run:
        return _print_steps(chosen, wheelhouse)
    chosen.api.serving_key()  # a weak one is refused before anything is taken down
    if _already_up(chosen, recreate=recreate):
        return
    try:
        with progress() as on_event:
            cluster = Cluster.up(
                chosen,
                private=False,
                attached=foreground,
                on_event=on_event,
                timeout_s=timeout,
                accept_new_host_keys=accept_new_host_keys,
                wheelhouse=wheelhouse,
            )
    except KeyboardInterrupt:
        say(f"interrupted; nothing of {chosen.name} is left")
        raise
    if foreground:
        _stay(cluster)
    else:
        _summary(cluster)


def _print_steps(profile: Any, wheelhouse: Path | None) -> None:
    """Say what each phase would do on each node."""
    from mlxctl.launch.bringup import PHASES
    from mlxctl.launch.launch import Launch

    launch = Launch(profile, profile.name, any_port=False, wheelhouse=wheelhouse)
    out = console()
    for phase in PHASES:
        steps = list(phase.steps(launch))
        if steps:
            out.print(f"[bold]{phase.title}[/]")
        for node, line in steps:
            out.print(f"  {node + ': ' if node else ''}{line}", markup=False, soft_wrap=True)


def _already_up(profile: Any, *, recreate: bool) -> bool:
    """Whether nothing is left to do. Raises LaunchError if something else runs, Degraded, ClusterBusy."""
    from mlxctl.cluster import DRAIN_S, Cluster, running_profile
    from mlxctl.errors import Degraded, LaunchError
    from mlxctl.launch.teardown import take_down

    running = running_profile(profile.name)
    if running is None:
        return False
    if recreate:
        report = take_down(profile.name, DRAIN_S)
        say(f"{profile.name} was up: taken down in {report.took_s:.1f} s")
        return False
    state, before = running
    differences = before.difference(profile)
    if differences:
        hint = "--recreate takes it down and brings up the new one"
        lines = "\n  ".join(differences)
        raise LaunchError(f"{profile.name} is running with another profile:\n  {lines}", hint=hint)
    status = Cluster.attach(profile.name).status()
    if status["problem"]:
        raise Degraded(f"{profile.name} is {status['state']}: {status['problem']}", hint="mlxctl up --recreate")
    say(f"{profile.name} is up already, at {state.api_url}/v1")
    return True


def _summary(cluster: Any) -> None:
    from mlxctl.cli.status import stages_table

    status = cluster.status()
    out = console()
    out.print(f"[bold]{status['cluster']}[/] serves [bold]{status['model']}[/] at [bold]{cluster.base_url}[/]", end="")
    out.print(f"  (ready in {cluster.took_s:.1f} s, context {status['context']}, concurrency {status['concurrency']})")
    out.print(stages_table(status))
    for unused in status["unused"]:
        say(f"{unused['node']} has no layers: {unused['reason']}")
    if (key_file := cluster.profile.api.api_key_file) is not None:
        say(f"clients send the key in {key_file}: Authorization: Bearer KEY")
    say(f"next: mlxctl chat · mlxctl status · mlxctl logs -f · mlxctl down {status['cluster']}")


def _stay(cluster: Any) -> None:
    """Wait for Ctrl-C or SIGTERM, or for the coordinator's end; then take the cluster down."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _summary(cluster)
        say("serving; Ctrl-C takes it down")
        cluster.wait()
    except KeyboardInterrupt:
        say("taking it down …")
    finally:
        cluster.down()
