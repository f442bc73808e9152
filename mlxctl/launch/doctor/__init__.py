"""Is everything as `up` needs it: a check per node and subject, each failure with what mends it. Called by the cli."""

from mlxctl.launch.doctor.findings import CHECKS, HERE, Finding, LinkMeasurement, Report
from mlxctl.launch.doctor.steps import diagnose

__all__ = ["CHECKS", "HERE", "Finding", "LinkMeasurement", "Report", "diagnose"]
