"""How fast a plan will be, and what bounds it. Pure; called by explain and compared with measurements by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan.stages import Plan, Stage
from mlxctl.plan.timing import Bound, StageTiming, StepTime

PROMPT_TOKENS = 1024
"""The prompt that figures are given for, or half the context if that is less."""

CHUNK_SIZES = (128, 256, 512, 1024)
"""Of these the coordinator comes to choose the one that brings the first token soonest, from what it measures."""

LANES_PER_STAGE = 2
"""It makes as many lanes as there are stages, or any number up to this many a stage that takes a cycle less than BETTER
of its time.
"""

BETTER = 0.9


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
    line = _Line(plan.stages, [by_name[stage.node] for stage in plan.stages], model)
    prompt = prompt_tokens or min(PROMPT_TOKENS, max(1, plan.context // 2))
    alone = line.steps(1, 1, prompt)
    chunks, prefill_s = _prefill(line, prompt, plan.chunk_tokens)
    cycle = _cycle(line, plan.concurrency, prompt, model.is_batchable)
    first_s = line.passing_s(alone)
    return Prediction(
        prompt_tokens=prompt,
        ttft_s=prefill_s + first_s,
        prefill=Rate(prompt / prefill_s, *_slowest(chunks)),
        one_stream=Rate(1 / first_s, _summed_bound(alone), None),
        all_lanes=Rate(plan.concurrency / cycle.seconds, *cycle.bound()),
        sequences=plan.concurrency,
        busy_s=tuple(step.compute_s for step in cycle.steps),
    )


class _Line:
    """Stages in a row, each on its node."""

    def __init__(self, stages: Sequence[Stage], nodes: Sequence[NodeFacts], model: ModelFacts) -> None:
        self.stages = len(stages)
        self._placed = list(zip(stages, nodes, strict=True))
        self._model = model
        self._one_host = len({node.host_id for node in nodes}) == 1

    def steps(self, rows: int, tokens: int, past: int, logits: bool = True) -> list[StepTime]:
        """Each stage's time for a step; see StageTiming."""
        timing = StageTiming(self._model, rows, tokens, past, logits)
        following = [node for _, node in self._placed[1:]] + [None]
        return [
            timing.of(node, stage.start, stage.stop, 1, self._one_host, after)
            for (stage, node), after in zip(self._placed, following, strict=True)
        ]

    def busiest_s(self, steps: Sequence[StepTime]) -> float:
        """How soon a step can follow the one before: a stage computes one at a time, a link carries one at a time, a
        machine computes as many at once as it has room for.
        """
        machines: dict[str, float] = {}
        for (_, node), step in zip(self._placed, steps, strict=True):
            machines[node.host_id] = machines.get(node.host_id, 0.0) + step.compute_s / node.parallel_workers
        return max(*machines.values(), *(step.busy_s for step in steps))

    def passing_s(self, steps: Sequence[StepTime]) -> float:
        """Of one step that passes all stages. Of several each has rested meanwhile; one alone runs ahead."""
        rested_s = sum(node.rested_s for _, node in self._placed) if self.stages > 1 else 0.0
        return sum(step.total_s for step in steps) + rested_s


def _prefill(line: _Line, prompt: int, most: int) -> tuple[list[StepTime], float]:
    """A chunk of the size that the coordinator comes to choose, at most `most`, and the seconds for all of them: one
    passes all stages, each further one waits for the busiest.
    """
    sizes = [size for size in CHUNK_SIZES if size <= most] or [most]
    found = []
    for size in sizes:
        steps = line.steps(1, min(size, prompt), prompt // 2, logits=False)
        found.append((line.passing_s(steps) + (max(1.0, prompt / size) - 1) * line.busiest_s(steps), size, steps))
    prefill_s, _, chunks = min(found, key=lambda each: each[:2])
    return chunks, prefill_s


@dataclass(frozen=True, slots=True)
class _Cycle:
    """The `seconds` in which every sequence gets a token, and each stage's step of one lane. It `is_full` where the
    slowest stage never waits for a lane.
    """

    seconds: float
    steps: list[StepTime]
    is_full: bool

    def bound(self) -> tuple[Bound, int | None]:
        return _slowest(self.steps) if self.is_full else (_summed_bound(self.steps), None)


def _cycle(line: _Line, sequences: int, past: int, is_batchable: bool) -> _Cycle:
    """In as many lanes as the coordinator comes to make: each passes all stages, and each stage serves all lanes."""

    def of(lanes: int) -> _Cycle:
        steps = line.steps(-(-sequences // lanes), 1, past)
        served_s = lanes * line.busiest_s(steps)
        return _Cycle(max(served_s, line.passing_s(steps)), steps, served_s >= sum(step.compute_s for step in steps))

    if not is_batchable:
        return of(sequences)
    most = min(sequences, LANES_PER_STAGE * line.stages)
    usual = of(min(line.stages, most))
    best = min((of(lanes) for lanes in range(1, most + 1)), key=lambda cycle: cycle.seconds)
    return best if best.seconds < BETTER * usual.seconds else usual


def _slowest(steps: Sequence[StepTime]) -> tuple[Bound, int]:
    index = max(range(len(steps)), key=lambda i: steps[i].busy_s)
    return steps[index].bound, index


def _summed_bound(steps: Sequence[StepTime]) -> Bound:
    """What bounds a step that passes all stages."""
    hops = sum(step.hop_s for step in steps)
    if hops > sum(step.compute_s for step in steps):
        return "hops"
    return max(steps, key=lambda step: step.compute_s).bound
