"""Installs this mlxctl on a node over SSH: look, choose, send what is missing, install. Called by launch's phases."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlxctl import __version__
from mlxctl.errors import LaunchError, MlxctlError, UsageError
from mlxctl.launch import wheels
from mlxctl.launch.phases import FirstError
from mlxctl.launch.provision import look, pythons, wheelhouse
from mlxctl.launch.provision.deliver import File, Say, deliver
from mlxctl.launch.provision.installed import Installed
from mlxctl.launch.provision.requirements import pins_hash
from mlxctl.launch.provision.target import Target
from mlxctl.launch.ssh import Remote
from mlxctl.paths import wheelhouse_dir
from mlxctl.profile import Node

LOOK_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 15.0


async def provision(remote: Remote, node: Node, *, wheelhouse: Path | None, report: Say) -> Installed:
    """Have this mlxctl and what it needs on the node behind `remote`, in a venv of its own; one round trip if it is.

    Wheels come from the folder `wheelhouse`; without one they are downloaded here first. `report` hears what happens.
    Raises LaunchError (no Python, no wheels, broken install), UsageError (wheelhouse), naming the node.
    """
    try:
        venv = await asyncio.to_thread(venv_name, node)
        seen = await examine(remote, node, venv)
        if seen.installed is not None:
            report(f"mlxctl {seen.installed.mlxctl_version} is there")
            return seen.installed
        python = _python(seen, wheelhouse)
        target = python.target
        assert target is not None
        report(f"{python.path} ({target})")
        folder, choice = await _choose_wheels(wheelhouse, target, report)
        with tempfile.TemporaryDirectory(prefix="mlxctl-wheel-") as scratch:
            own = await asyncio.to_thread(_write_own_wheel, Path(scratch))
            chosen = [own, *(File(folder / wheel.file, wheel.sha256) for wheel in choice.wheels)]
            return await deliver(remote, seen, python.path, chosen, venv, report)
    except MlxctlError as error:
        error.node = error.node or node.name
        raise


async def targets_of(nodes: Sequence[Node], report: Say) -> list[Target]:
    """What each of `nodes` needs wheels for; connects to them and changes nothing. Raises LaunchError and others."""

    async def ask(node: Node) -> Target:
        remote = await Remote.connect(node, accept_new_host_keys=False, timeout_s=CONNECT_TIMEOUT_S)
        try:
            python = _python(await examine(remote, node, venv=""), None)
        except MlxctlError as error:
            error.node = error.node or node.name
            raise
        finally:
            await remote.close()
        assert python.target is not None
        report(f"{node.name}: {python.path} ({python.target})")
        return python.target

    async with FirstError() as group:
        tasks = [group.create_task(ask(node)) for node in nodes]
    return [task.result() for task in tasks]


async def examine(remote: Remote, node: Node, venv: str) -> look.Look:
    """What the node has: the venv of that name, else what could make it. Changes nothing. Raises LaunchError."""
    script = look.script(venv, node.python)
    answer = await remote.run(look.COMMAND, input=script, timeout_s=LOOK_TIMEOUT_S)
    return look.parse(answer.stdout, answer.stderr)


def venv_name(node: Node) -> str:
    """Another one for every change of mlxctl's files, of what it needs, and of the Python asked for."""
    parts = (wheels.own_package().hash, pins_hash(), node.python or "")
    return f"{__version__}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


def _python(seen: look.Look, wheelhouse_folder: Path | None) -> pythons.Python:
    """The Python to install with: one that there are wheels for, else the version that runs here."""
    there = wheelhouse.pythons_of(wheelhouse_folder) if wheelhouse_folder is not None else ()
    preferred = (*dict.fromkeys(sorted(there, reverse=True)), (sys.version_info[0], sys.version_info[1]))
    python = pythons.choose(seen.pythons, preferred)
    if python is None:
        reason = pythons.why_none(seen.pythons, seen.broken, seen.missing_python)
        raise LaunchError(reason, hint=pythons.mend(seen.system))
    if seen.unwritable is not None:
        hint = f"on the node: sudo chown -R $(whoami) {seen.unwritable!r}"
        raise LaunchError(f"{seen.unwritable} there cannot be written to", hint=hint)
    return python


async def _choose_wheels(folder: Path | None, target: Target, report: Say) -> tuple[Path, wheelhouse.Choice]:
    """The folder to send from and what to send. Without a folder given, ours is filled. Raises UsageError."""
    if folder is None:
        loop = asyncio.get_running_loop()

        def say(line: str) -> None:
            loop.call_soon_threadsafe(report, line)

        return wheelhouse_dir(), await asyncio.to_thread(wheelhouse.fill, wheelhouse_dir(), target, say)
    choice = await asyncio.to_thread(wheelhouse.find, folder, target)
    if choice is None:
        platform = f"{target.system}-{target.version[0]}.{target.version[1]}-{target.machine}"
        raise UsageError(
            f"the wheelhouse {folder} has no wheels for {target} and this mlxctl",
            hint=f"with internet: mlxctl wheelhouse {folder} --platform {platform} --python {target.python_text}",
        )
    return folder, choice


def _write_own_wheel(folder: Path) -> File:
    path = folder / wheels.FILE_NAME
    content = wheels.own_package().wheel()
    path.write_bytes(content)
    return File(path, hashlib.sha256(content).hexdigest())
