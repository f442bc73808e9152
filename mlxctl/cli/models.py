"""`mlxctl models`: which models, and which of their layers, are where on this machine, with sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mlxctl.checkpoint.installed import InstalledModel
    from mlxctl.worker.layer_store import LayerStore, StoredModel

SCHEMA = "mlxctl.models/1"
PLACES = {"builtin": "built in", "hub": "hub cache", "store": "layer store"}


def models(
    action: Annotated[str, typer.Argument(help="list")] = "list",
    verify: Annotated[bool, typer.Option("--verify", help="hash what is in the layer store again")] = False,
    as_json: Annotated[bool, typer.Option("--json", help=f'the list as "{SCHEMA}"')] = False,
) -> None:
    """List the models and layers that are on this machine."""
    from mlxctl.checkpoint.installed import built_in, in_hub_cache
    from mlxctl.cli.output import console, print_json
    from mlxctl.paths import store_dir
    from mlxctl.worker.layer_store import LayerStore

    _refuse_others(action)
    store = LayerStore(store_dir())
    rows = [_installed("builtin", built_in()), *(_installed("hub", model) for model in in_hub_cache())]
    rows += [_stored(store, model, verify) for model in store.models()]
    if as_json:
        print_json({"schema": SCHEMA, "models": rows})
    else:
        console().print(_table(rows))
    _report_damage(rows)


def _refuse_others(action: str) -> None:
    """Raises UsageError for everything but `list`."""
    from mlxctl.errors import UsageError

    if action in ("push", "pull"):
        raise UsageError(
            f"models {action} fills other machines ahead of time, and other machines cannot be nodes yet",
            hint="nodes on this machine read its folders of models; `hf download ID` fills the hub cache",
        )
    if action != "list":
        raise UsageError(f"there is no models {action}", hint="mlxctl models list")


def _report_damage(rows: Sequence[dict[str, Any]]) -> None:
    """Raises CheckpointError if hashing has found damaged pieces."""
    from mlxctl.errors import CheckpointError

    for row in rows:
        if damaged := row.get("damaged"):
            raise CheckpointError(
                f"{row['name']}: {', '.join(damaged)} in {row['path']} differ from their hashes",
                hint="remove these files; the next `mlxctl up` sends them again",
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
        "damaged": store.damaged(model) if verify else None,
    }


def _is_layer(needs: tuple[int, ...], layer_count: int) -> bool:
    return len(needs) == 1 and needs[0] < layer_count


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    from mlxctl.cli.output import format_bytes

    table = Table("model", "where", "size", "what", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(row["name"], PLACES[row["place"]], format_bytes(row["size_bytes"]), _what(row))
    return table


def _what(row: dict[str, Any]) -> str:
    from mlxctl.cli.output import format_bytes

    if row["place"] != "store":
        return row["fault"] or "complete"
    layers = f"{len(row['layers'])} of {row['layer_count']} layers"
    if row["partial_bytes"]:
        layers += f", {format_bytes(row['partial_bytes'])} of others"
    return f"{layers}, damaged" if row["damaged"] else layers
