"""`mlxctl models`: which models, and which of their layers, are where; fill nodes ahead of time; make room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mlxctl.checkpoint.installed import InstalledModel
    from mlxctl.worker.layer_store import LayerStore, StoredModel

SCHEMA = "mlxctl.models/1"
PLACES = {"builtin": "built in", "hub": "hub cache", "store": "layer store"}
ACTIONS = ("list", "pull", "push", "remove", "prune")


def models(
    action: Annotated[str, typer.Argument(help="list, pull, push, remove or prune")] = "list",
    model: Annotated[str | None, typer.Argument(help="for pull, push, remove: which model")] = None,
    profile: Annotated[str | None, typer.Argument(help="for pull, push: whose nodes; default: this machine")] = None,
    nodes: Annotated[str | None, typer.Option(help="list: also what the other machines of this profile have")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="list: hash what is in the layer store again")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="remove, prune: do not ask")] = False,
    accept_new_host_keys: Annotated[
        bool, typer.Option("--accept-new-host-keys", help="pull, push: trust machines not seen before")
    ] = False,
    wheelhouse: Annotated[Path | None, typer.Option(help="pull, push: folder of what nodes install")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one document on stdout")] = False,
) -> None:
    """List which models and layers are on this machine; pull or push a model to the nodes of a profile; make room.

    pull has nodes read their layers of a hub's model from there; push sends them what this machine has; remove takes a
    model out of this machine's layer store; prune what nothing will read any more.
    """
    _check(action, model, profile)
    if action == "list":
        _list(nodes, verify, as_json)
    elif action in ("pull", "push"):
        from mlxctl.cli.models_fill import fill

        assert model is not None
        fill(action, model, profile, accept_new_host_keys=accept_new_host_keys, wheelhouse=wheelhouse, as_json=as_json)
    else:
        from mlxctl.cli.models_clean import clean

        clean(model, yes=yes, as_json=as_json)


def _check(action: str, model: str | None, profile: str | None) -> None:
    """Raises UsageError for words that do not go together."""
    import difflib

    from mlxctl.errors import UsageError

    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, 1)
        raise UsageError(f"there is no models {action}", hint=f"mlxctl models {near[0] if near else 'list'}")
    if action in ("pull", "push", "remove") and model is None:
        raise UsageError(f"models {action} needs a model", hint=f"mlxctl models {action} org/name")
    if (action in ("list", "prune") and model) or (action == "remove" and profile):
        raise UsageError(f"models {action} takes no {'profile' if action == 'remove' else 'model'}")


def _list(nodes: str | None, verify: bool, as_json: bool) -> None:
    from mlxctl.checkpoint.installed import built_in, in_hub_cache
    from mlxctl.cli.output import console, print_json
    from mlxctl.paths import store_dir
    from mlxctl.worker.layer_store import LayerStore

    store = LayerStore(store_dir())
    rows = [_installed("builtin", built_in()), *(_installed("hub", model) for model in in_hub_cache())]
    rows += [_stored(store, model, verify) for model in store.models()]
    if nodes is not None:
        rows = [{"node": None, **row} for row in rows] + _on_nodes(nodes, verify)
    if as_json:
        print_json({"schema": SCHEMA, "models": rows})
    else:
        console().print(_table(rows))
    _report_damage(rows)


def _on_nodes(profile: str, verify: bool) -> list[dict[str, Any]]:
    """The rows of the profile's other machines."""
    from mlxctl.cli.output import say
    from mlxctl.launch.node_models import models_on_nodes
    from mlxctl.profile import load_profile

    found = models_on_nodes(load_profile(profile), verify=verify)
    for node in (node for node, rows in found.items() if not rows):
        say(f"{node}: mlxctl is not installed there yet; `mlxctl up` or `mlxctl models push` does it")
    return [{"node": node, **row} for node, rows in found.items() for row in rows]


def _report_damage(rows: Sequence[dict[str, Any]]) -> None:
    """Raises CheckpointError if hashing has found damaged pieces."""
    from mlxctl.errors import CheckpointError

    for row in rows:
        if damaged := row.get("damaged"):
            raise CheckpointError(
                f"{row['name']}: {', '.join(damaged)} in {row['path']} differ from their hashes",
                hint="remove these files; the next `mlxctl up` sends them again",
                node=row.get("node"),
            )


def _installed(place: str, model: InstalledModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "place": place,
        "path": str(model.path),
        "size_bytes": model.size_bytes,
        "fault": model.fault,
    }


def _stored(store: LayerStore, model: StoredModel, verify: bool) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "place": "store",
        "path": str(store.folder(model.key)),
        "size_bytes": model.size_bytes,
        "partial_bytes": model.partial_bytes,
        "layers": sorted(piece.needs[0] for piece in model.pieces if _is_layer(piece.needs, manifest.layer_count)),
        "layer_count": manifest.layer_count,
        "revision": manifest.origin.commit if manifest.origin else None,
        "damaged": store.damaged(model) if verify else None,
    }


def _is_layer(needs: tuple[int, ...], layer_count: int) -> bool:
    return len(needs) == 1 and needs[0] < layer_count


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    from mlxctl.cli.output import format_bytes

    table = Table("model", "where", "size", "what", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        where = f"{node}: {PLACES[row['place']]}" if (node := row.get("node")) else PLACES[row["place"]]
        table.add_row(row["name"], where, format_bytes(row["size_bytes"]), _what(row))
    return table


def _what(row: dict[str, Any]) -> str:
    from mlxctl.cli.output import format_bytes

    if row["place"] != "store":
        return row["fault"] or "complete"
    layers = f"{len(row['layers'])} of {row['layer_count']} layers"
    if row["partial_bytes"]:
        layers += f", {format_bytes(row['partial_bytes'])} of others"
    return f"{layers}, damaged" if row["damaged"] else layers
