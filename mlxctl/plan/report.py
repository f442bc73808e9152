"""A plan with all that is said about it, and what changes without some nodes. Pure; called by `mlxctl plan`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mlxctl.errors import UsageError
from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan.explain import Explanation, explain
from mlxctl.plan.kv import with_planned_caches
from mlxctl.plan.planner import make_plan
from mlxctl.plan.stages import Plan
from mlxctl.profile import Profile


@dataclass(frozen=True, slots=True)
class Report:
    """What `mlxctl plan` shows. `before` is the same with all nodes, where some were left out."""

    profile: str
    model: ModelFacts
    nodes: tuple[NodeFacts, ...]
    plan: Plan
    explanation: Explanation
    without: tuple[str, ...] = ()
    before: Report | None = None

    def facts(self, node: str) -> NodeFacts:
        """What is known of `node`."""
        return next(facts for facts in self.nodes if facts.name == node)


def make_report(
    profile: Profile,
    nodes: Sequence[NodeFacts],
    model: ModelFacts,
    timed: Sequence[NodeFacts],
    without: Sequence[str] = (),
) -> Report:
    """Plan `model` on `nodes` but those named in `without`; `timed` are the nodes with measured speeds, which the
    predictions use. Raises what make_plan raises, and UsageError for a node that is not there or the last one.
    """
    model = with_planned_caches(profile, model)
    if not without:
        plan = make_plan(profile, nodes, model)
        return Report(profile.name, model, tuple(timed), plan, explain(profile, nodes, model, plan, timed))
    _check_names(profile, without)
    kept = _left(profile, without)
    rest = make_report(kept, _but(nodes, without), model, _but(timed, without))
    full = make_report(profile, nodes, model, timed)
    return Report(rest.profile, model, rest.nodes, rest.plan, rest.explanation, tuple(without), full)


def _check_names(profile: Profile, without: Sequence[str]) -> None:
    names = [node.name for node in profile.nodes]
    for name in without:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"nodes: {', '.join(names)}"
            raise UsageError(f"there is no node {name!r} in profile {profile.name}", hint=hint)
    if set(without) >= set(names):
        raise UsageError("no node is left", hint="leave fewer out")


def _left(profile: Profile, without: Sequence[str]) -> Profile:
    pins = {name: count for name, count in profile.placement.layers.items() if name not in without}
    placement = profile.placement.model_copy(update={"layers": pins})
    nodes = tuple(node for node in profile.nodes if node.name not in without)
    return profile.model_copy(update={"nodes": nodes, "placement": placement})


def _but(nodes: Sequence[NodeFacts], without: Sequence[str]) -> tuple[NodeFacts, ...]:
    return tuple(node for node in nodes if node.name not in without)
