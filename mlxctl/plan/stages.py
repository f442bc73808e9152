"""Plans as data: which node runs which layers, with what memory. Made by the planner, read by launch and cli."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlxctl.facts import CHUNK_TOKENS

Objective = Literal["throughput", "latency"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One position in the pipeline: `node` runs layers [start, stop).

    `activation_bytes` is working memory (a prefill chunk, chunks that wait, logits, copies of one layer's caches),
    `headroom_bytes` what is left free on purpose. `budget_bytes` is what the node may use; nodes of one machine share
    theirs, so there it is this stage's share of it.
    """

    index: int
    node: str
    rank: int
    start: int
    stop: int
    weight_bytes: int
    kv_bytes: int
    activation_bytes: int
    headroom_bytes: int
    budget_bytes: int

    @property
    def resident_bytes(self) -> int:
        """What stays in memory: weights and full caches."""
        return self.weight_bytes + self.kv_bytes

    @property
    def needed_bytes(self) -> int:
        """All that the budget must hold."""
        return self.resident_bytes + self.activation_bytes + self.headroom_bytes

    @property
    def free_bytes(self) -> int:
        return self.budget_bytes - self.needed_bytes


@dataclass(frozen=True, slots=True)
class Unused:
    """A node of the profile that gets no layers, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`model` split over `stages`, so that `concurrency` sequences of `context` tokens fit at once.

    `hash` names the plan: equal models, splits and limits have equal hashes. Prompts are computed at most
    `chunk_tokens` tokens at once.
    """

    model: str
    model_hash: str
    context: int
    concurrency: int
    objective: Objective
    stages: tuple[Stage, ...]
    unused: tuple[Unused, ...]
    hash: str
    chunk_tokens: int = CHUNK_TOKENS[False]

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(stage.node for stage in self.stages)
