"""From the name in a profile to a folder: `canary`, a directory, a hub id, pinned to a commit at its first use."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from mlxctl.canary import MODEL_DIR
from mlxctl.checkpoint.files import hub_commit
from mlxctl.checkpoint.hub import fetch, hub_folder
from mlxctl.errors import CheckpointError, HubUnreachable
from mlxctl.hub import cached_snapshot, find_snapshot, is_offline
from mlxctl.sharding.model import check_index
from mlxctl.sharding.random_model import is_random_name, random_folder

CANARY = "canary"
MAIN = "main"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def resolve_model(name: str | Path) -> Path:
    """The folder that holds the model `name`; of one on a hub perhaps all but its weights.

    `org/name` is the commit that it was when this machine first met it, `org/name@revision` any other. Raises
    CheckpointError saying what was tried, AuthenticationError.
    """
    text = str(name)
    if text == CANARY:
        return MODEL_DIR
    if is_random_name(text):
        return random_folder(text)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise CheckpointError(f"{text} is a file", hint="give the folder that holds config.json and *.safetensors")
    if _HUB_ID.fullmatch(text):
        return _on_hub(text)
    hint = "give canary, a folder, or a hub id such as mlx-community/Qwen3-1.7B-8bit"
    if difflib.get_close_matches(text.casefold(), [CANARY]):
        hint = f"did you mean {CANARY}?"
    raise CheckpointError(f"no model {text!r}: there is no such folder, and it is not a hub id", hint=hint)


def revision_of(folder: Path) -> str | None:
    """The commit of a hub snapshot folder; None for any other."""
    found = hub_commit(folder)
    return found.commit if found else None


def refresh(hub_id: str) -> Path:
    """Ask the hub what `org/name` or `org/name@revision` is now; its folder. Raises as resolve_model does."""
    repo, _, revision = hub_id.partition("@")
    return fetch(repo, revision or MAIN, revision or MAIN)


def is_hub_id(name: str) -> bool:
    """Whether `name` means a model on a hub rather than a folder or the built-in one."""
    return name != CANARY and not Path(name).expanduser().exists() and _HUB_ID.fullmatch(name) is not None


def _on_hub(hub_id: str) -> Path:
    """What this machine's Hugging Face cache has whole, else what we know of it, else the hub is asked."""
    repo, _, revision = hub_id.partition("@")
    ref = revision or MAIN
    cached = cached_snapshot(repo, ref)
    if cached is not None and _is_whole(cached):
        return cached
    if (known := find_snapshot(hub_folder(repo), ref)) is not None:
        return known
    if is_offline():
        if cached is not None:
            return cached
        raise CheckpointError(
            f"no model {hub_id!r}: this machine does not have it, and HF_HUB_OFFLINE forbids to ask the hub",
            hint=f"unset HF_HUB_OFFLINE, or bring it here: hf download {repo}",
        )
    try:
        return fetch(repo, cached.name if cached else ref, ref)
    except HubUnreachable:
        if cached is not None:
            return cached
        raise


def _is_whole(snapshot: Path) -> bool:
    """Whether all weights are in a folder of the Hugging Face cache."""
    files = [file.name for file in snapshot.glob("model*.safetensors") if file.exists()]
    try:
        check_index(snapshot, files)
    except CheckpointError:
        return False
    return bool(files) and (snapshot / "config.json").exists()
