"""Least total time from any point of a split to its end, each node's memory its own. Called by search as its guide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
NEVER = 1 << 60


def least_to_go(times: Sequence[Times], pinned: int) -> list[list[int]]:
    """For each set of nodes still free (a bit each) and each position the least sum of stages from there to the end.

    `times[node][start, stop]` are stage times, NEVER where a stage cannot be; all nodes of the set `pinned` are used.
    """
    positions = times[0].shape[0]
    to_go: list[Times] = []
    for free in range(1 << len(times)):
        best = np.full(positions, NEVER, np.int64)
        for node in (node for node in range(len(times)) if free >> node & 1):
            best = np.minimum(best, (times[node] + to_go[free & ~(1 << node)]).min(axis=1))
        best[-1] = NEVER if pinned & free else 0
        to_go.append(np.minimum(best, NEVER))
    return [row.tolist() for row in to_go]
