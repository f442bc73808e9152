"""`mlxctl models prune` and `remove`: say what would go from this machine and how much room that makes, ask, remove."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlxctl.errors import CheckpointError

if TYPE_CHECKING:
    from mlxctl.worker.leftovers import Leftover

SCHEMA = "mlxctl.removed/1"


def clean(model: str | None, *, yes: bool, as_json: bool) -> None:
    """Remove all of `model`, or, without one, what nothing will read any more."""
    from mlxctl.cli.output import format_bytes, print_json, say

    found = _all_of(model) if model else _leftovers()
    agreed = bool(found) and (yes or (not as_json and _ask(found)))
    for leftover in found if agreed else ():
        leftover.remove()
    total_bytes = sum(leftover.size_bytes for leftover in found)
    if as_json:
        files = [{"path": str(each.path), "size_bytes": each.size_bytes, "why": each.why} for each in found]
        print_json({"schema": SCHEMA, "removed": agreed, "size_bytes": total_bytes, "files": files})
    elif not found:
        say("nothing to remove")
    else:
        say(f"{format_bytes(total_bytes)} removed" if agreed else "nothing was removed; --yes does it")


def _leftovers() -> list[Leftover]:
    from mlxctl.paths import hub_dir, store_dir
    from mlxctl.worker.layer_store import LayerStore
    from mlxctl.worker.leftovers import Leftover, leftovers

    unfinished = [Leftover(folder, 0, "an unfinished look at a hub") for folder in hub_dir().glob("*/snapshots/.new-*")]
    return [*leftovers(LayerStore(store_dir())), *unfinished]


def _all_of(model: str) -> list[Leftover]:
    """Raises CheckpointError if there is nothing, saying where the model is that is not ours to remove."""
    from mlxctl.checkpoint.hub import hub_folder
    from mlxctl.checkpoint.resolve import is_hub_id
    from mlxctl.paths import store_dir
    from mlxctl.worker.layer_store import LayerStore
    from mlxctl.worker.leftovers import Leftover, everything_of

    found = everything_of(LayerStore(store_dir()), model)
    if is_hub_id(model) and (folder := hub_folder(model.partition("@")[0])).is_dir():
        size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        found.append(Leftover(folder, size_bytes, f"configuration and headers of {model}"))
    if not found:
        hint = "mlxctl models lists what is there; `hf cache rm` clears the hub cache, which belongs to other tools too"
        raise CheckpointError(f"the layer store of this machine has nothing of {model}", hint=hint)
    return found


def _ask(found: Sequence[Leftover]) -> bool:
    """List what would go; on a terminal, ask."""
    from mlxctl.cli.output import format_bytes, say

    for leftover in found:
        say(f"{format_bytes(leftover.size_bytes):>10}  {leftover.path}  ({leftover.why})")
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    total = format_bytes(sum(leftover.size_bytes for leftover in found))
    print(f"remove {total}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")
