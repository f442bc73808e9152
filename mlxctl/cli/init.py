"""`mlxctl init`: probe hosts, write a commented profile that `up` accepts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import say

if TYPE_CHECKING:
    from mlxctl.launch.doctor.visit import Visit
    from mlxctl.profile import Node

_NEEDED = ("resolve", "tcp", "host_key", "login", "python")  # without these there is nothing to write


def init(
    hosts: Annotated[
        list[str] | None, typer.Argument(help="[user@]host[:port] each, or localhost; asked for if none is given")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the file to write")] = Path("cluster.yaml"),
    model: Annotated[str, typer.Option(help="hub id, directory, or canary")] = "canary",
    force: Annotated[bool, typer.Option("--force", help="replace the file if it is there")] = False,
    accept_new_host_keys: Annotated[
        bool, typer.Option("--accept-new-host-keys", help="trust hosts seen for the first time; never a changed key")
    ] = False,
) -> None:
    """Write a profile by probing hosts."""
    import asyncio

    from mlxctl.launch.draft import parse_host

    name = _cluster_name(output, force=force)
    nodes = [parse_host(host) for host in hosts or _ask_for_hosts()]
    visits = asyncio.run(_visit_all(nodes, accept_new_host_keys))
    _require_all(visits)
    _write(output, name, model, visits)


def _cluster_name(output: Path, *, force: bool) -> str:
    """The cluster's name, from the file's. Raises UsageError for a file that cannot be written or must not be."""
    from mlxctl.errors import UsageError
    from mlxctl.paths import name_fault

    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{output} cannot be a file", hint="-o FILE names one in a folder that is there")
    if output.exists() and not force:
        raise UsageError(f"{output} is there already", hint="--force replaces it, -o FILE writes another")
    if fault := name_fault(output.stem):
        raise UsageError(f"the file's name is to be the cluster's, and {output.stem!r} {fault}", hint="-o FILE")
    return output.stem


def _ask_for_hosts() -> Sequence[str]:
    """Host after host from a terminal, an empty line ends them. Raises UsageError without one."""
    from mlxctl.errors import UsageError
    from mlxctl.launch.ssh_names import known_names

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("which hosts?", hint="mlxctl init HOST HOST …, each [user@]host[:port] or localhost")
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    completer = WordCompleter(["localhost", *known_names()], sentence=True)
    session: PromptSession[str] = PromptSession(completer=completer, complete_while_typing=False)
    say("the cluster's machines, one a line; Tab completes what ssh knows; an empty line ends the list")
    hosts: list[str] = []
    while True:
        try:
            answer = session.prompt(f"host {len(hosts) + 1}: ").strip()
        except EOFError:
            answer = ""
        if answer:
            hosts += answer.split()
        elif hosts:
            return hosts
        else:
            raise UsageError("no host was named", hint="localhost is this machine")


async def _visit_all(nodes: Sequence[Node], accept_new_host_keys: bool) -> list[Visit]:
    """A visit to each host, connections closed."""
    import asyncio

    from mlxctl.launch.doctor.visit import Visit, visit_here, visit_node
    from mlxctl.launch.launch import Machine
    from mlxctl.launch.phases import FirstError

    named = [node.model_copy(update={"name": f"node-{number}"}) for number, node in enumerate(nodes, 1)]
    visits = [Visit(None if node.is_local else Machine((node,)), (node,)) for node in named]
    say(f"probing {', '.join(node.host for node in nodes)}")
    try:
        async with FirstError() as group:
            for visit in visits:
                here = visit.machine is None
                task = visit_here(visit) if here else visit_node(visit, "", accept_new_host_keys=accept_new_host_keys)
                group.create_task(task)
    finally:
        await asyncio.gather(*(visit.end() for visit in visits))
    return visits


def _require_all(visits: Sequence[Visit]) -> None:
    """Say what is wrong with each host; raise LaunchError if one cannot be a node."""
    from mlxctl.errors import LaunchError
    from mlxctl.launch.doctor import CHECKS

    unusable = []
    for visit in visits:
        host = visit.nodes[0].host
        failures = [finding for finding in visit.shared.findings if finding.level == "fail"]
        for finding in failures:
            say(f"{host}: {CHECKS[finding.check]}: {finding.detail}")
            say(f"    mend: {finding.mend}")
        if any(finding.check in _NEEDED for finding in failures) or visit.agent is None:
            unusable.append(host)
    if unusable:
        hint = "mend that, or run mlxctl init without them"
        raise LaunchError(f"nothing was written: {', '.join(unusable)} cannot be used yet", hint=hint)


def _write(output: Path, name: str, model: str, visits: Sequence[Visit]) -> None:
    """Write the profile, checked as `up` checks it."""
    from mlxctl.errors import UsageError
    from mlxctl.launch.draft import Draft, write_profile
    from mlxctl.profile import load_profile

    drafts = [
        Draft(
            node=visit.nodes[0],
            host_name=visit.host_name,
            python=visit.python,
            system=visit.system,
            address=(visit.machine.look.address if visit.machine and visit.machine.look else "127.0.0.1"),
        )
        for visit in visits
    ]
    unchecked = output.with_name(f".{output.name}.new")
    try:
        unchecked.write_text(write_profile(name, model, drafts), encoding="utf-8")
        load_profile(unchecked, environment={})
        unchecked.replace(output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    finally:
        unchecked.unlink(missing_ok=True)
    say(f"{output} is written: {len(drafts)} nodes")
    say(f"next: mlxctl doctor {output} · mlxctl up {output}")
