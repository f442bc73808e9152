"""Machines known without asking them: tables of Macs and links, and facts files for machines one does not own."""

from mlxctl.hardware.facts_file import SimulatedNode, read_facts_file
from mlxctl.hardware.tables import find_link, find_mac, flops_of, links, mac_chips, wired_limit

__all__ = [
    "SimulatedNode",
    "find_link",
    "find_mac",
    "flops_of",
    "links",
    "mac_chips",
    "read_facts_file",
    "wired_limit",
]
