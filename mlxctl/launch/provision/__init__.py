"""This mlxctl on a bare node: a venv per version, from wheels that the coordinator sends. Called by launch's phases."""

from mlxctl.launch.provision.installed import Installed, installed_here, require_equal_versions
from mlxctl.launch.provision.steps import provision, targets_of

__all__ = ["Installed", "installed_here", "provision", "require_equal_versions", "targets_of"]
