"""Layers [start, stop) of any mlx-lm model, run by the model's own code. Called by the worker on its MLX thread.

The whole model is called as its authors wrote it, with other `__call__`s in its decoder layers: those before `start`
return the activation received, those from `stop` on return what the last own layer returned. What hangs on foreign
layers, embedding and head included, is lazy graph that nobody evaluates, so their weights are never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxctl.errors import CheckpointError, CorruptFrame
from mlxctl.sharding.boundary import Boundary
from mlxctl.sharding.caches import ShardCache, advance
from mlxctl.sharding.layer_map import TRACED_TOKENS, LayerMap
from mlxctl.sharding.pytree import dicts_in
from mlxctl.sharding.swap import swap


@dataclass(frozen=True, slots=True)
class Output:
    """What a stage hands on, lazy: a `boundary` for the next stage, or from the last stage `logits` [B, T, V]."""

    boundary: Boundary | None = None
    logits: mx.array | None = None

    def arrays(self) -> list[mx.array]:
        """What to evaluate."""
        held = self.boundary.arrays.values() if self.boundary else (self.logits,)
        return [array for array in held if array is not None]


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """Whether sequences can share a lane; tokens up to which one can forget its last ones (None: always)."""

    batchable: bool
    trim_limit: int | None


@dataclass(slots=True)
class _Pass:
    """One forward pass while the model's code runs."""

    inbox: Boundary
    filler: Boundary  # what foreign layers return whose results nobody reads
    cache: ShardCache
    shape: tuple[int, int]
    calls: int = 0
    captured: Boundary | None = None
    advanced: set[int] = field(default_factory=set)


class Shard:
    """One stage. Everything it returns is lazy; everything must be called on the thread that loaded the model."""

    def __init__(self, model: Any, start: int, stop: int, layer_map: LayerMap) -> None:
        """Takes `model` over: its layers no longer run as a whole model's. Raises IllegalCut."""
        layer_map.check_stage(start, stop)
        self.model = model
        self.start, self.stop = start, stop
        self.layer_map = layer_map
        self._pass: _Pass | None = None
        self._kv_bits = self._kv_group_size = 0
        if not (self.is_first and self.is_last):
            for index, layer in enumerate(model.layers):
                swap(layer, self._call_of(index))

    @property
    def layer_count(self) -> int:
        """Layers of the whole model."""
        return self.layer_map.layer_count

    @property
    def is_first(self) -> bool:
        return self.start == 0

    @property
    def is_last(self) -> bool:
        return self.stop == self.layer_count

    def make_cache(self) -> ShardCache:
        """Empty caches for one lane."""
        cache = ShardCache(make_prompt_cache(self.model), self.layer_map.own_slots(self.start, self.stop))
        if self._kv_bits:
            cache.quantize(self._kv_bits, self._kv_group_size)
        return cache

    def quantize_caches(self, bits: int, group_size: int) -> None:
        """Make caches with keys and values of `bits` (4, 8; 0: as the model has them). Raises CheckpointError where
        one of this stage's caches cannot be quantized.
        """
        self._kv_bits, self._kv_group_size = bits, group_size
        self.make_cache()

    @property
    def cache_facts(self) -> CacheFacts:
        """What can be done with this stage's caches."""
        cache = self.make_cache()
        limit = cache.trim_limit
        return CacheFacts(cache.is_batchable, None if limit == math.inf else int(limit))

    def forward(self, tokens: mx.array, inbox: Boundary | None, cache: ShardCache) -> Output:
        """One step of B sequences: `tokens` int32 [B, T] on every stage, `inbox` from the stage before.

        Evaluate `Output.arrays()` together with `cache.arrays()`. Raises CorruptFrame for an input of the wrong form.
        """
        received = inbox.filled() if inbox else None
        self._check(tokens, received)
        received = received or Boundary(None)
        self._pass = running = _Pass(received, received.snapshot(), cache, (tokens.shape[0], tokens.shape[1]))
        try:
            logits = self.model(tokens, cache=list(cache.slots))
        finally:
            self._pass = None
        cache.advanced(tokens.shape[1])
        if self.is_first and self.is_last:
            return Output(logits=logits)
        if running.calls != self.stop - self.start:
            raise CheckpointError(f"{self}: the model called {running.calls} of its {self.stop - self.start} layers")
        return Output(logits=logits) if self.is_last else Output(boundary=running.captured)

    def warm_up(self) -> None:
        """Run 2 tokens, then 1 more, on zeros: compiles kernels and reads what weights the stage still lacks."""
        cache = self.make_cache()
        for step, columns in enumerate(TRACED_TOKENS):
            inbox = None if self.is_first else self.layer_map.crossings[self.start].templates[step]
            output = self.forward(mx.zeros((1, columns), mx.int32), inbox, cache)
            mx.eval(output.arrays(), cache.arrays())
        mx.clear_cache()

    def __str__(self) -> str:
        return f"stage [{self.start}, {self.stop})"

    def _check(self, tokens: mx.array, inbox: Boundary | None) -> None:
        if tokens.ndim != 2 or 0 in tokens.shape or not mx.issubdtype(tokens.dtype, mx.integer):
            raise CorruptFrame(f"{self}: tokens must be integers [B, T], not {tokens.dtype} {tuple(tokens.shape)}")
        if self.is_first != (inbox is None):
            raise CorruptFrame(f"{self}: {'the first stage takes no' if self.is_first else 'there is no'} activation")
        if inbox is not None:
            try:
                self.layer_map.crossings[self.start].check(inbox, tokens.shape[0], tokens.shape[1])
            except CorruptFrame as error:
                raise CorruptFrame(f"{self}: {error.message}") from None

    def _call_of(self, index: int) -> Callable[..., Any]:
        if index < self.start:
            return partial(self._before, index)
        return partial(self._own, index) if index < self.stop else self._after

    def _before(self, index: int, _forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        running = self._running([*args, *kwargs.values()])
        if index < self.start - 1:
            return running.filler.value
        for old, received in zip(dicts_in([*args, *kwargs.values()]), running.inbox.dicts, strict=False):
            old.clear()
            old.update(received)
        return running.inbox.value

    def _own(self, index: int, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = forward(*args, **kwargs)
        running = self._pass
        assert running is not None
        running.calls += 1
        if index == self.stop - 1 and not self.is_last:
            output = Boundary(value, tuple(dicts_in([*args, *kwargs.values()])))
            running.captured = output.snapshot(self.layer_map.crossings[self.stop].unread)
            running.filler = output.snapshot()
        return value

    def _after(self, _forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._running([*args, *kwargs.values()]).filler.value

    def _running(self, values: list[Any]) -> _Pass:
        """The pass under way, after the ghosts among a foreign layer's arguments have passed over its tokens."""
        running = self._pass
        assert running is not None
        for ghost in running.cache.ghosts_in(values):
            if id(ghost) not in running.advanced:
                running.advanced.add(id(ghost))
                advance(ghost, *running.shape)
        return running
