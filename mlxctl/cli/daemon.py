"""`mlxctl daemon` (hidden): the coordinator's process, started by `mlxctl up`."""

from __future__ import annotations


def daemon() -> None:
    """Coordinate one cluster; started by `mlxctl up`."""
    from mlxctl.coordinator.daemon import run

    run()
