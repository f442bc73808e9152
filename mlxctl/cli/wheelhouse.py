"""`mlxctl wheelhouse`: download what nodes install, here where there is internet, for `up --wheelhouse`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxctl.cli.output import console, format_bytes, say

if TYPE_CHECKING:
    from mlxctl.launch.provision.target import Target


def wheelhouse(
    folder: Annotated[Path, typer.Argument(help="where the wheels go; what is there already is kept")],
    for_profile: Annotated[
        str | None, typer.Option("--for", help="a profile: its nodes are asked what they need, over SSH")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="macos-arm64, macos-15-arm64, linux-x86_64 …; without asking a node (may be repeated)"),
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option(help="version of the nodes' Python, such as 3.12 (may be repeated)")
    ] = None,
) -> None:
    """Download what nodes install."""
    from mlxctl.errors import UsageError
    from mlxctl.launch.provision.target import parse_target
    from mlxctl.launch.provision.wheelhouse import fill

    if (for_profile is None) == (not platform) or bool(platform) != bool(python):
        raise UsageError(
            "say what the wheels are for: --for PROFILE, or --platform and --python",
            hint=f"mlxctl wheelhouse {folder} --platform macos-arm64 --python 3.12",
        )
    targets = _asked(for_profile) if for_profile is not None else []
    targets += [parse_target(each, version) for each in platform or [] for version in python or []]
    out = console()
    for target in dict.fromkeys(targets):
        choice = fill(folder, target, say)
        size = format_bytes(sum(wheel.size_bytes for wheel in choice.wheels))
        out.print(f"{target}: {len(choice.wheels)} wheels, {size}")
    say(f"next: mlxctl up {for_profile or 'PROFILE'} --wheelhouse {folder}")


def _asked(name: str) -> list[Target]:
    """What the nodes of the profile `name` need, each asked. Raises UsageError where none is another machine."""
    import asyncio

    from mlxctl.errors import UsageError
    from mlxctl.launch.provision import targets_of
    from mlxctl.profile import load_profile

    profile = load_profile(name)
    nodes = [node for node in profile.nodes if not node.is_local]
    if not nodes:
        raise UsageError(f"every node of {profile.name} is this machine: nothing is installed for it")
    return asyncio.run(targets_of(nodes, say))
