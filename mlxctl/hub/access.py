"""Which hub, with which token, and what of it is in this machine's Hugging Face cache. Called by checkpoint, worker."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_ENDPOINT = "https://huggingface.co"
_YES = {"1", "on", "yes", "true"}


@dataclass(frozen=True, slots=True)
class HubAccess:
    """A hub's address and the user's token for it, which is never shown."""

    endpoint: str
    token: str = field(default="", repr=False)


def access_from_environment() -> HubAccess:
    """HF_ENDPOINT, else the public hub; the token of HF_TOKEN or of `hf auth login`, if there is one."""
    from huggingface_hub import get_token

    endpoint = os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    return HubAccess(endpoint.rstrip("/"), get_token() or "")


def is_offline() -> bool:
    """Whether the user forbids asking any hub."""
    return any(os.environ.get(name, "").lower() in _YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def cache_folder(repo: str) -> Path:
    """Where this machine's Hugging Face cache keeps the model `repo`; it need not exist."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached_snapshot(repo: str, revision: str) -> Path | None:
    """The cache's folder of a commit, or of the commit that a branch or tag stood for; None if it has none."""
    return find_snapshot(cache_folder(repo), revision)


def find_snapshot(folder: Path, revision: str) -> Path | None:
    """The snapshot of `revision` in a model's `folder` with refs/ and snapshots/; None if there is none."""
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None
