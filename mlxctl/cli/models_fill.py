"""`mlxctl models pull` and `push`: fill the nodes of a profile with the weights that `up` would give them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlxctl.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from mlxctl.launch.fill import Filled

SCHEMA = "mlxctl.fill/1"


def fill(
    action: str,
    model: str,
    profile: str | None,
    *,
    accept_new_host_keys: bool,
    wheelhouse: Path | None,
    as_json: bool,
) -> None:
    """`pull`: nodes read a hub's model, of its newest commit. `push`: they are sent what this machine has."""
    from dataclasses import asdict

    from mlxctl.cli.output import console, print_json
    from mlxctl.cli.progress import progress
    from mlxctl.launch.fill import fill_nodes
    from mlxctl.profile import load_profile

    chosen = load_profile(profile, {"model": model})
    (_check_pull if action == "pull" else _check_push)(model)
    with progress() as on_event:
        filled = asyncio.run(
            fill_nodes(chosen, on_event, accept_new_host_keys=accept_new_host_keys, wheelhouse=wheelhouse)
        )
    if as_json:
        print_json({"schema": SCHEMA, "model": model, "nodes": [asdict(node) for node in filled]})
    else:
        console().print(_table(filled))


def _check_pull(model: str) -> None:
    """Pin the model's newest commit. Raises UsageError for one that is on no hub."""
    from mlxctl.checkpoint.resolve import is_hub_id, refresh

    if not is_hub_id(model):
        raise UsageError(
            f"{model} is no hub id, so there is nowhere to pull it from", hint=f"mlxctl models push {model}"
        )
    refresh(model)


def _check_push(model: str) -> None:
    """Raises CheckpointError for a model of which this machine has no copy to send."""
    from mlxctl.checkpoint import resolve_model
    from mlxctl.checkpoint.files import weight_files

    missing = [file.name for file in weight_files(resolve_model(model)) if file.path is None]
    if missing:
        raise CheckpointError(
            f"this machine has no copy of {model} to send: {missing[0]} and {len(missing) - 1} other files are missing",
            hint=f"mlxctl models pull {model} has the nodes read it from the hub",
        )


def _table(filled: Sequence[Filled]) -> Table:
    from rich.table import Table

    table = Table("node", "layers", "has them in", "came now", box=None, pad_edge=False, header_style="bold")
    for node in filled:
        layers = f"{node.start}-{node.stop - 1}" if node.stop - node.start > 1 else f"{node.start}"
        table.add_row(node.node, layers, node.folder or "its layer store", _came(node))
    return table


def _came(node: Filled) -> str:
    from mlxctl.cli.output import format_bytes

    parts = ((node.fetched_bytes, "from the hub"), (node.sent_bytes, "from here"))
    return ", ".join(f"{format_bytes(size)} {where}" for size, where in parts if size) or "nothing"
