"""How fast a plan will be, and what bounds it. Pure; called by explain and compared with measurements by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlxctl.facts import CACHE_STEP_TOKENS, ModelFacts, NodeFacts
from mlxctl.plan.stages import Plan, Stage
from mlxctl.plan.timing import LANE_ROWS, Bound, StageTiming, StepTime, sharers

PROMPT_TOKENS = 1024
"""The prompt that figures are given for, or half the context if that is less."""

Kind = Literal["one stream", "all lanes", "prefill"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens a second with the stage and resource that bound them; `stage` is None where all stages add up."""

    tokens_per_s: float
    bound: Bound
    stage: int | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Figures for a prompt of `prompt_tokens`. `busy_s` is each stage's time for one step of one lane.

    `one_stream` is a single request's decode rate, `all_lanes` that of `sequences` requests together.
    """

    prompt_tokens: int
    ttft_s: float
    prefill: Rate
    one_stream: Rate
    all_lanes: Rate
    sequences: int
    busy_s: tuple[float, ...]


def predict(plan: Plan, nodes: Sequence[NodeFacts], model: ModelFacts, prompt_tokens: int | None = None) -> Prediction:
    """What `plan` will do on `nodes` (all of the profile's; those it uses are looked up by name)."""
    by_name = {node.name: node for node in nodes}
    used = [by_name[stage.node] for stage in plan.stages]
    prompt = prompt_tokens or min(PROMPT_TOKENS, max(1, plan.context // 2))
    decode = StageTiming(model, LANE_ROWS, 1, prompt)
    chunk = StageTiming(model, 1, min(CACHE_STEP_TOKENS, prompt), prompt // 2, logits=False)
    alone = _times(decode, plan.stages, used, 1)
    together = _times(decode, plan.stages, used, plan.concurrency)
    chunks = _times(chunk, plan.stages, used, -(-prompt // CACHE_STEP_TOKENS))
    first = sum(step.total_s for step in alone)
    ttft = _prefill_s(prompt, chunks) + first
    return Prediction(
        prompt_tokens=prompt,
        ttft_s=ttft,
        prefill=Rate(prompt / _prefill_s(prompt, chunks), *_slowest(chunks)),
        one_stream=Rate(1 / first, _one_stream_bound(alone), None),
        all_lanes=_all_lanes(plan.concurrency, alone, together),
        sequences=plan.concurrency,
        busy_s=tuple(step.compute_s for step in together),
    )


def _times(timing: StageTiming, stages: Sequence[Stage], nodes: Sequence[NodeFacts], in_flight: int) -> list[StepTime]:
    """Each stage's step while `in_flight` lanes are under way, so that as many stages at most compute at once."""
    one_host = len({node.host_id for node in nodes}) == 1
    return [
        timing.of(node, stage.start, stage.stop, min(in_flight, sharers(nodes, node)), one_host)
        for stage, node in zip(stages, nodes, strict=True)
    ]


def _prefill_s(prompt: int, chunks: Sequence[StepTime]) -> float:
    """Chunks follow each other through the stages: one passes all of them, each further one waits for the slowest."""
    count = -(-prompt // CACHE_STEP_TOKENS)
    return sum(step.total_s for step in chunks) + (count - 1) * max(step.compute_s for step in chunks)


def _all_lanes(sequences: int, alone: Sequence[StepTime], together: Sequence[StepTime]) -> Rate:
    """Each lane comes round no faster than alone, and the slowest stage serves one at a time."""
    lanes = -(-sequences // LANE_ROWS)
    bottleneck = lanes * max(step.compute_s for step in together)
    round_trip = sum(step.total_s for step in alone)
    if bottleneck >= round_trip:
        return Rate(sequences / bottleneck, *_slowest(together))
    return Rate(sequences / round_trip, _one_stream_bound(alone), None)


def _slowest(steps: Sequence[StepTime]) -> tuple[Bound, int]:
    index = max(range(len(steps)), key=lambda i: steps[i].compute_s)
    return steps[index].bound, index


def _one_stream_bound(steps: Sequence[StepTime]) -> Bound:
    hops = sum(step.hop_s for step in steps)
    if hops > sum(step.compute_s for step in steps):
        return "hops"
    return max(steps, key=lambda step: step.compute_s).bound
