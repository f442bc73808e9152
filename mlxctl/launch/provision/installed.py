"""What provisioning leaves on a node, and whether all nodes have the same. Read by launch and doctor."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from mlxctl import __version__
from mlxctl.errors import LaunchError
from mlxctl.paths import home

HERE = "this machine"
_DISTRIBUTIONS = {"mlxctl": "mlxctl_version", "mlx": "mlx_version", "mlx-lm": "mlx_lm_version"}


@dataclass(frozen=True, slots=True)
class Installed:
    """`python -m mlxctl` is our code there, `home` its MLXCTL_HOME; both are absolute paths on the node."""

    python: str
    home: str
    mlxctl_version: str
    mlx_version: str
    mlx_lm_version: str

    @classmethod
    def from_json(cls, text: str, home: str) -> Self:
        """From a venv's marker file. Raises LaunchError for text that install.py did not write."""
        try:
            marker = json.loads(text)
            versions = {field: str(marker["versions"][name]) for name, field in _DISTRIBUTIONS.items()}
            return cls(python=str(marker["python"]), home=home, **versions)
        except (ValueError, KeyError, TypeError) as error:
            hint = f"remove {home}/venvs there: it is made again"
            raise LaunchError(f"cannot read what is installed: {text[:80]!r}", hint=hint) from error


def installed_here() -> Installed:
    """The mlxctl that runs now."""
    return Installed(
        python=sys.executable,
        home=str(home()),
        mlxctl_version=__version__,
        mlx_version=importlib.metadata.version("mlx"),
        mlx_lm_version=importlib.metadata.version("mlx-lm"),
    )


def require_equal_versions(nodes: Mapping[str, Installed]) -> None:
    """Raise LaunchError, naming the node, where mlxctl, mlx or mlx-lm differ from this machine's: results would."""
    here = installed_here()
    for node, installed in nodes.items():
        for name, field in _DISTRIBUTIONS.items():
            theirs, ours = getattr(installed, field), getattr(here, field)
            if theirs != ours:
                hint = f"install the version that mlxctl is tested with on {HERE}: pip install '{name}=={theirs}'"
                raise LaunchError(f"{name} is {theirs} there and {ours} on {HERE}", hint=hint, node=node)
