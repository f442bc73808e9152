"""Folders of private clusters whose processes were killed: nobody else would remove them. Used by ranks and `down`."""

from __future__ import annotations

import shutil
import time

from mlxctl import paths
from mlxctl.errors import ClusterBusy
from mlxctl.launch.state import PRIVATE_PREFIX, ClusterLock

SETTLED_S = 60.0
"""A younger folder may be that of a launcher whose daemon has not taken its lock yet."""


def clear_leftovers(settled_s: float = SETTLED_S) -> list[str]:
    """Remove every private folder that has no state and that nobody holds; their names."""
    found = sorted(paths.clusters_dir().glob(f"{PRIVATE_PREFIX}*"))
    settled = [folder for folder in found if time.time() - folder.stat().st_mtime >= settled_s]
    left = [folder for folder in settled if not paths.state_file(folder.name).exists() and _is_free(folder.name)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in left]


def _is_free(name: str) -> bool:
    try:
        with ClusterLock(name):
            return True
    except ClusterBusy:
        return False
