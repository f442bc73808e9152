"""Profile + NodeFacts + ModelFacts → Plan. Pure: no I/O, no clock. Called by launch and by `mlxctl plan`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from mlxctl.errors import CheckpointError, DoesNotFit
from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan.problem import Problem, planned_context
from mlxctl.plan.remedies import why_not
from mlxctl.plan.stages import Plan, Stage, Unused
from mlxctl.profile import Profile


def make_plan(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts) -> Plan:
    """The best split of `model` over `nodes` (those of the profile that were probed), the same for the same input.

    Raises DoesNotFit (saying what would make it fit), IllegalCut for a pin that no legal cut meets, UsageError for a
    context beyond the model's, CheckpointError for a model that a node on this machine cannot compute.
    """
    _check_supported(profile, model)
    context = planned_context(profile, model)
    problem = Problem(profile, nodes, model, context, profile.concurrency)
    placements = problem.search().best(profile.objective)
    if placements is None:
        message, hint = why_not(profile, nodes, model, context)
        raise DoesNotFit(message, hint=hint)
    chunk_tokens = problem.chunk_tokens(placements)
    stages = problem.stages(placements, chunk_tokens)
    return Plan(
        model=model.name,
        model_hash=model.hash,
        context=context,
        concurrency=profile.concurrency,
        objective=profile.objective,
        stages=stages,
        unused=_unused(problem, stages),
        chunk_tokens=chunk_tokens,
        hash=_plan_hash(model, profile, context, stages),
    )


def _check_supported(profile: Profile, model: ModelFacts) -> None:
    local = next((node.name for node in profile.nodes if node.is_local), None)
    if model.unsupported_here and local is not None:
        hint = "use a quantized or float32 checkpoint, or nodes with a GPU"
        raise CheckpointError(model.unsupported_here, hint=hint, node=local)


def _unused(problem: Problem, stages: Sequence[Stage]) -> tuple[Unused, ...]:
    used = {stage.node for stage in stages}
    pieces = len(problem.positions) - 1
    if problem.objective == "latency":
        reason = "the objective is latency, and each further stage adds a hop"
    elif len(used) == pieces:
        reason = f"the model comes in {pieces} pieces only"
    else:
        reason = "too little memory for any layer"
    return tuple(Unused(node.name, reason) for node in problem.nodes if node.name not in used)


def _plan_hash(model: ModelFacts, profile: Profile, context: int, stages: Sequence[Stage]) -> str:
    split = [(stage.node, stage.rank, stage.start, stage.stop) for stage in stages]
    caches = [profile.kv_bits, profile.kv_group_size] if profile.kv_bits else []
    named = [model.hash, context, profile.concurrency, split, *caches]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()
