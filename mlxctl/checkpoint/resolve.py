"""From the name in a profile to a folder: `canary`, a directory, a hub id in the local cache. Never downloads."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from mlxctl.canary import MODEL_DIR
from mlxctl.errors import CheckpointError

CANARY = "canary"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def resolve_model(name: str | Path) -> Path:
    """The folder that holds the model `name`. Raises CheckpointError saying what was tried."""
    text = str(name)
    if text == CANARY:
        return MODEL_DIR
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise CheckpointError(f"{text} is a file", hint="give the folder that holds config.json and *.safetensors")
    if _HUB_ID.fullmatch(text):
        return _cached(text)
    hint = "give canary, a folder, or a hub id such as mlx-community/Qwen3-1.7B-8bit"
    if difflib.get_close_matches(text.casefold(), [CANARY]):
        hint = f"did you mean {CANARY}?"
    raise CheckpointError(f"no model {text!r}: there is no such folder, and it is not a hub id", hint=hint)


def revision_of(folder: Path) -> str | None:
    """The commit of a hub snapshot folder; None for any other."""
    is_snapshot = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    return folder.name if is_snapshot else None


def _cached(hub_id: str) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    config = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(config, str):
        return Path(config).parent
    raise CheckpointError(
        f"no model {hub_id!r}: there is no such folder, and the hub cache {HF_HUB_CACHE} does not hold it",
        hint=f"fetch it with: hf download {hub_id}",
    )
