"""Nodes filled with a model's weights ahead of time: a launch up to its weights, undone. For `mlxctl models`."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mlxctl import paths
from mlxctl.launch.bringup import PHASES, Load
from mlxctl.launch.events import Report
from mlxctl.launch.launch import Launch
from mlxctl.launch.phases import run_phases
from mlxctl.launch.state import PRIVATE_PREFIX, ClusterLock
from mlxctl.profile import Profile

FILLING = tuple(phase for phase in PHASES if not isinstance(phase, Load))


@dataclass(frozen=True, slots=True)
class Filled:
    """What one node has now: layers [start, stop), in its own `folder` or (empty) its store; what was moved for it."""

    node: str
    start: int
    stop: int
    folder: str
    sent_bytes: int
    fetched_bytes: int


async def fill_nodes(
    profile: Profile,
    report: Report,
    *,
    accept_new_host_keys: bool = False,
    wheelhouse: Path | None = None,
    separate_stores: Mapping[str, Path] | None = None,
) -> tuple[Filled, ...]:
    """Bring each node of `profile` the weights that the plan gives it; leave nothing running. Raises as `up` does."""
    launch = Launch(
        profile,
        f"{PRIVATE_PREFIX}{secrets.token_hex(4)}",
        any_port=True,
        accept_new_host_keys=accept_new_host_keys,
        wheelhouse=wheelhouse,
        separate_stores=separate_stores or {},
    )
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, paths.cluster_dir(launch.name), ignore_errors=True)
        stack.enter_context(ClusterLock(launch.name))
        await run_phases(FILLING, launch, report, stack)
        found, plan = launch.distribution, launch.plan
        assert found is not None and plan is not None
        return tuple(
            Filled(stage.node, stage.start, stage.stop, place.folder, sent_bytes, fetched_bytes)
            for stage, place, sent_bytes, fetched_bytes in zip(
                plan.stages, found.places, found.sent_bytes, found.fetched_bytes, strict=True
            )
        )
