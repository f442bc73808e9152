"""YAML → Profile: what the user wants of a cluster, with every mistake explained where it stands."""

from mlxctl.profile.environment import VARIABLES, Variable, markdown_table, unknown_variables
from mlxctl.profile.load import load_profile, packaged_names
from mlxctl.profile.model import Api, Node, Placement, Profile

__all__ = [
    "VARIABLES",
    "Api",
    "Node",
    "Placement",
    "Profile",
    "Variable",
    "load_profile",
    "markdown_table",
    "packaged_names",
    "unknown_variables",
]
