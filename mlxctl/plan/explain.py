"""Why a plan is as it is, how much more would fit, how fast it will be. Pure; called by `mlxctl plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan.memory import StageBytes
from mlxctl.plan.planner import make_plan
from mlxctl.plan.prediction import Prediction, predict
from mlxctl.plan.problem import Problem
from mlxctl.plan.remedies import largest_concurrency, largest_context
from mlxctl.plan.stages import Plan, Stage
from mlxctl.profile import Profile

ONE_STREAM = "a pipeline does not speed up one stream: each token passes every stage in turn"


WORTH_SAYING = 1.15
"""How much faster one stream must be on fewer nodes to be mentioned."""


@dataclass(frozen=True, slots=True)
class FewerNodes:
    """What one stream would get under `objective: latency`."""

    nodes: tuple[str, ...]
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Working:
    """What the stage on `node` needs beside weights and caches, by purpose: the most of any. Prompts are computed
    `chunk_tokens` at once.
    """

    node: str
    chunk_tokens: int
    needed: StageBytes


@dataclass(frozen=True, slots=True)
class Explanation:
    """`largest_context` is for the planned concurrency, `largest_concurrency` for the planned context; `limits` says
    where the memory budgets come from. `fewer_nodes` is there where they make one stream clearly faster.
    """

    reasons: tuple[str, ...]
    limits: tuple[str, ...]
    working: Working
    largest_context: int
    largest_concurrency: int
    prediction: Prediction
    fewer_nodes: FewerNodes | None


def explain(
    profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, plan: Plan, timed: Sequence[NodeFacts] = ()
) -> Explanation:
    """All there is to say of `plan`, which make_plan made of the same arguments. `timed` are the nodes with speeds
    that were measured since, for the prediction.
    """
    problem = Problem(profile, nodes, model, plan.context, plan.concurrency)
    timed = timed or nodes
    clocked = Problem(profile, timed, model, plan.context, plan.concurrency)
    prediction = predict(plan, timed, model)
    return Explanation(
        reasons=(_objective(plan, clocked), *_reasons(profile, problem, model, plan)),
        limits=tuple(_limits(problem)),
        working=_working(problem, plan),
        largest_context=largest_context(profile, nodes, model, plan.concurrency),
        largest_concurrency=largest_concurrency(profile, nodes, model, plan.context),
        prediction=prediction,
        fewer_nodes=_fewer_nodes(profile, timed, model, prediction),
    )


def _fewer_nodes(
    profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, prediction: Prediction
) -> FewerNodes | None:
    if profile.objective == "latency":
        return None
    plan = make_plan(profile.model_copy(update={"objective": "latency"}), nodes, model)
    rate = predict(plan, nodes, model).one_stream.tokens_per_s
    return FewerNodes(plan.nodes, rate) if rate > WORTH_SAYING * prediction.one_stream.tokens_per_s else None


def _reasons(profile: Profile, problem: Problem, model: ModelFacts, plan: Plan) -> Iterator[str]:
    for stage in plan.stages:
        if stage.node in profile.placement.layers:
            count = stage.stop - stage.start
            yield f"{stage.node} is pinned to {count} layer{'s' if count > 1 else ''}"
        elif len(plan.stages) > 1 and _is_full(problem, plan, stage):
            yield f"{stage.node} is full: one layer more would not fit"
    for unused in plan.unused:
        yield f"{unused.node} is not used: {unused.reason}"
    if model.illegal_cuts and len(plan.stages) > 1:
        yield _illegal(model)


def _objective(plan: Plan, problem: Problem) -> str:
    if len(plan.stages) == 1:
        return "one node holds it all"
    times = problem.stage_times(plan.stages)
    slowest = max(range(len(times)), key=lambda index: times[index])
    if plan.objective == "latency":
        return f"the fewest and fastest nodes: {sum(times) * 1e3:.1f} ms from stage to stage is the least possible"
    others = sorted(time for index, time in enumerate(times) if index != slowest)
    spread = f"{others[0] * 1e3:.1f}" if len(others) == 1 else f"{others[0] * 1e3:.1f} to {others[-1] * 1e3:.1f}"
    return (
        f"the slowest stage, {plan.stages[slowest].node}, is as short as can be: "
        f"{times[slowest] * 1e3:.1f} ms a step, the others {spread} ms"
    )


def _working(problem: Problem, plan: Plan) -> Working:
    most = max(plan.stages, key=lambda stage: stage.activation_bytes)
    node = next(node for node in problem.nodes if node.name == most.node)
    needed = problem.stage_bytes(node, most.start, most.stop, plan.chunk_tokens)
    return Working(most.node, plan.chunk_tokens, needed)


def _is_full(problem: Problem, plan: Plan, stage: Stage) -> bool:
    """Whether the stage could not take the next piece of the model from either neighbour."""
    wider = problem.widened(stage)
    return bool(wider) and all(
        problem.excess_bytes(stage, start, stop, plan.chunk_tokens) > stage.free_bytes for start, stop in wider
    )


def _illegal(model: ModelFacts) -> str:
    cuts = sorted(model.illegal_cuts)
    first = model.illegal_cuts[cuts[0]]
    return f"{len(cuts)} of {model.layer_count - 1} cuts are impossible, such as before layer {cuts[0]}: {first}"


def _limits(problem: Problem) -> Iterator[str]:
    """Where budgets come from, nodes with the same answer together."""
    said: dict[str, list[str]] = {}
    for pool in problem.pools:
        verb = "share" if len(pool.nodes) > 1 else "may use"
        said.setdefault(f"{verb} {pool.reason}", []).extend(pool.nodes)
    return (f"{', '.join(nodes)} {what}" for what, nodes in said.items())
