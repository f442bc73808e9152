"""mlxctl turns a handful of Macs into one machine for large language models."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlxctl.cluster import Cluster

try:
    __version__ = version("mlxctl")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["Cluster", "__version__"]


def __getattr__(name: str) -> Any:
    """`mlxctl.Cluster`, imported when it is first used: the command line must start without it."""
    if name == "Cluster":
        from mlxctl.cluster import Cluster

        return Cluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
