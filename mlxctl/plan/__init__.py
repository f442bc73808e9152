"""Which node runs which layers, and why: Profile + NodeFacts + ModelFacts → Plan. Pure; used by launch and cli."""

from mlxctl.plan.planner import make_plan
from mlxctl.plan.stages import Plan, Stage, Unused

__all__ = ["Plan", "Stage", "Unused", "make_plan"]
