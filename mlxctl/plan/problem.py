"""One placement problem: nodes, model, context and concurrency turned into integers for the search, and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mlxctl.errors import IllegalCut, UsageError
from mlxctl.facts import CHUNK_TOKENS, ModelFacts, NodeFacts
from mlxctl.plan.kv import is_quantized, with_planned_caches
from mlxctl.plan.labels import Placement
from mlxctl.plan.memory import Pool, StageBytes, StageMemory, memory_pools
from mlxctl.plan.search import Candidate, Search
from mlxctl.plan.stages import Stage
from mlxctl.plan.timing import StageTiming, sharers, usable_bandwidth, usable_flops
from mlxctl.profile import Profile

DEFAULT_CONTEXT = 8192


def planned_context(profile: Profile, model: ModelFacts) -> int:
    """Tokens per sequence that must fit. Raises UsageError if the profile asks for more than the model knows."""
    if profile.context is None:
        return min(DEFAULT_CONTEXT, model.context_limit)
    if profile.context > model.context_limit:
        raise UsageError(
            f"context {profile.context} is more than the {model.context_limit} tokens of {model.name}",
            hint=f"set context to at most {model.context_limit}",
        )
    return profile.context


class Problem:
    """Who could run what. Positions are the model's start, its legal cuts and its end."""

    def __init__(
        self, profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int, concurrency: int
    ) -> None:
        model = with_planned_caches(profile, model)
        self.nodes = tuple(nodes)
        self.model = model
        self.objective = profile.objective
        self.positions = (0, *model.legal_cuts, model.layer_count)
        self.pools = memory_pools(profile, nodes)
        self._pool_of = {name: index for index, pool in enumerate(self.pools) for name in pool.nodes}
        self._pins = {name: self._pin(name, count) for name, count in profile.placement.layers.items()}
        # over quantized keys attention is no single kernel
        self._fusable = model.is_fusable and not is_quantized(model)
        self._chunk_tokens = CHUNK_TOKENS[self._is_fused(self.nodes)]
        most = min(len(self.nodes), len(self.positions) - 1)
        self._memory = {
            (fused, chunk): StageMemory(model, context, concurrency, fused, most, chunk)
            for fused in (False, True)
            for chunk in CHUNK_TOKENS.values()
        }
        self._timing = StageTiming(model, 1, 1, context // 2)
        self._one_host = len({node.host_id for node in nodes}) == 1

    def search(self) -> Search:
        """The search over this problem."""
        candidates = [self._candidate(node) for node in self.nodes]
        return Search(len(self.positions) - 1, candidates, [pool.bytes for pool in self.pools], self._cost)

    def chunk_tokens(self, placements: Sequence[Placement]) -> int:
        """Tokens of a prompt that all stages compute at once: what all nodes can, or those used, if they have room."""
        most = CHUNK_TOKENS[self._is_fused([self.nodes[placed.node] for placed in placements])]
        has_room = all(self._taken(index, placements, most) <= pool.bytes for index, pool in enumerate(self.pools))
        return most if has_room else self._chunk_tokens

    def stages(self, placements: Sequence[Placement], chunk_tokens: int) -> tuple[Stage, ...]:
        """What the search found, in layers and bytes."""
        return tuple(self._stage(index, placements, chunk_tokens) for index in range(len(placements)))

    def pool(self, node: str) -> Pool:
        """The memory that `node` draws from."""
        return self.pools[self._pool_of[node]]

    def stage_times(self, stages: Sequence[Stage]) -> tuple[float, ...]:
        """Seconds of one step of each stage, as the search weighs them."""
        place = {layer: position for position, layer in enumerate(self.positions)}
        index = {node.name: n for n, node in enumerate(self.nodes)}
        return tuple(self._cost(index[s.node], place[s.start], place[s.stop])[0] / 1e9 for s in stages)

    def widened(self, stage: Stage) -> list[tuple[int, int]]:
        """The layer ranges that `stage` would have with one more piece of the model, at its start or its end."""
        start, stop = self.positions.index(stage.start), self.positions.index(stage.stop)
        wider = [(self.positions[start - 1], stage.stop)] if start else []
        return wider + ([(stage.start, self.positions[stop + 1])] if stop + 1 < len(self.positions) else [])

    def excess_bytes(self, stage: Stage, start: int, stop: int, chunk_tokens: int) -> int:
        """How much more than `stage` layers [start, stop) need on its node."""
        node = next(node for node in self.nodes if node.name == stage.node)
        return self.stage_bytes(node, start, stop, chunk_tokens).total - stage.needed_bytes

    def needed_bytes(self, node: NodeFacts, start: int, stop: int) -> int:
        """All that a stage of layers [start, stop) needs on `node`, with chunks that all nodes can compute."""
        return self.stage_bytes(node, start, stop, self._chunk_tokens).total

    def stage_bytes(self, node: NodeFacts, start: int, stop: int, chunk_tokens: int) -> StageBytes:
        """The same by purpose, with chunks of `chunk_tokens`."""
        return self._memory[self._is_fused([node]), chunk_tokens].of(start, stop)

    def _is_fused(self, nodes: Sequence[NodeFacts]) -> bool:
        return self._fusable and all(node.fused_attention for node in nodes)

    def _taken(self, pool: int, placements: Sequence[Placement], chunk_tokens: int) -> int:
        """What the stages that draw from `pool` need together."""
        return sum(
            self._placed_bytes(placed, chunk_tokens).total
            for placed in placements
            if self._pool_of[self.nodes[placed.node].name] == pool
        )

    def _placed_bytes(self, placed: Placement, chunk_tokens: int) -> StageBytes:
        start, stop = self.positions[placed.start], self.positions[placed.stop]
        return self.stage_bytes(self.nodes[placed.node], start, stop, chunk_tokens)

    def _cost(self, n: int, start: int, stop: int) -> tuple[int, int]:
        if stop <= start:
            return 0, 0
        node, first, last = self.nodes[n], self.positions[start], self.positions[stop]
        others = sharers(self.nodes, node) if self.objective == "throughput" else 1
        step = self._timing.of(node, first, last, others, self._one_host)
        return round(step.total_s * 1e9), self.needed_bytes(node, first, last)

    def _candidate(self, node: NodeFacts) -> Candidate:
        pool = self._pool_of[node.name]
        pin = self._pins.get(node.name)
        memory = pool if len(self.pools[pool].nodes) > 1 else ("own", self.pools[pool].bytes)
        computes = (usable_bandwidth(node), usable_flops(node), node.batch_flops, node.cache_bytes_per_s)
        speed = (*computes, node.parallel_workers, node.link_bytes_per_s, node.link_latency_s)
        host = sharers(self.nodes, node)
        pinned = tuple(sorted(pin.items())) if pin is not None else None
        return Candidate(pool, (memory, speed, host, node.fused_attention, pinned), pin)

    def _pin(self, node: str, count: int) -> dict[int, int]:
        """Where a stage of exactly `count` layers may lie. Raises IllegalCut if nowhere."""
        place = {layer: position for position, layer in enumerate(self.positions)}
        stops = {place[start]: place.get(start + count) for start in self.positions[:-1]}
        found = {start: stop for start, stop in stops.items() if stop is not None}
        if not found:
            lengths = sorted({b - a for a in self.positions for b in self.positions if b > a})
            nearest = sorted(lengths, key=lambda length: (abs(length - count), length))[:2]
            raise IllegalCut(
                f"no stretch of {count} layers of {self.model.name} can be cut out",
                hint=f"pin {' or '.join(str(length) for length in sorted(nearest))} layers instead",
                node=node,
            )
        return found

    def _stage(self, index: int, placements: Sequence[Placement], chunk_tokens: int) -> Stage:
        placed = placements[index]
        node = self.nodes[placed.node]
        need = self._placed_bytes(placed, chunk_tokens)
        pool = self._pool_of[node.name]
        sharing = sum(self._pool_of[self.nodes[p.node].name] == pool for p in placements)
        share = (self.pools[pool].bytes - self._taken(pool, placements, chunk_tokens)) // sharing
        return Stage(
            index=index,
            node=node.name,
            rank=0,
            start=self.positions[placed.start],
            stop=self.positions[placed.stop],
            weight_bytes=need.weights,
            kv_bytes=need.kv,
            activation_bytes=need.activations,
            headroom_bytes=need.headroom,
            budget_bytes=need.total + share,
        )
