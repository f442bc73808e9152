"""Simulated devices on cores of their own: the workers of one machine, told apart by physical core. Used by runner.

Linux alone lets one process choose the cores of another; macOS has no such call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from mlxctl.gpus import gpu_environment
from mlxctl.profile import Profile


def cores() -> list[int]:
    """The cores that this process may use, one of each physical core first."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    allowed = sorted(os.sched_getaffinity(0))
    first = {_siblings(core): core for core in reversed(allowed)}
    return sorted(allowed, key=lambda core: (core not in first.values(), core))


def _siblings(core: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else str(core)


def pin(pid: int, places: Sequence[int]) -> None:
    """Let all threads of `pid` run on the cores at `places` alone; does nothing where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return
    chosen = {cores()[place] for place in places}
    with suppress(psutil.NoSuchProcess):
        for thread in psutil.Process(pid).threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, chosen)


def pin_simulated(profile: Profile, status: Mapping[str, Any]) -> dict[str, int]:
    """Give each worker in `status` that shares this machine a core, in turn; the cores by node.

    Empty where `profile` has one node here, so that it is a device of its own, where workers compute on GPUs, or where
    the system cannot. With fewer cores than workers, workers share them.
    """
    local = [node.name for node in profile.nodes if node.is_local]
    if len(local) < 2 or gpu_environment(0, len(local)) or not hasattr(os, "sched_setaffinity"):
        return {}
    known = cores()
    found = {}
    for stage in status["stages"]:
        if stage["node"] in local:
            place = local.index(stage["node"]) % len(known)
            pin(stage["pid"], [place])
            found[stage["node"]] = known[place]
    return found
