"""One unevaluated forward pass, watched: what each layer reads and returns. Called by the layer map.

Everything a layer returns or leaves in a cache is replaced by placeholders at once, so that the graph of the pass falls
apart into one piece a layer; which placeholders a piece hangs on says which layers it depends on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxctl.sharding.boundary import Boundary
from mlxctl.sharding.caches import cache_arrays, caches_in, map_cache
from mlxctl.sharding.pytree import arrays_in, dicts_in, map_arrays
from mlxctl.sharding.swap import restore, swap

# { 7 [label ="Add", shape=rectangle]; }   or   "A" -> 7   or   7 -> "B"
_LINE = re.compile(r'^(?:\{ (\d+) \[|"(\w+)" -> \d|\d+ -> "(\w+)")', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Produced:
    """Where a placeholder stands: layer `layer` returned it at `path`, or left it in one of its caches (no path)."""

    layer: int
    path: str | None


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of layer `layer`: the cache slots it got, the placeholders it was `given`, what it returned."""

    layer: int
    slots: tuple[int, ...]
    given: frozenset[Produced]
    output: Boundary


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass. `reads[i]` is what the results of layer i hang on; the last entry is that of the logits."""

    calls: tuple[LayerCall, ...]
    reads: Mapping[int, frozenset[Produced]]


@dataclass(frozen=True, slots=True)
class Trace:
    """`outer_slots` are the cache slots that code outside the layers fills."""

    slots: tuple[Any, ...]
    outer_slots: tuple[int, ...]
    steps: tuple[Step, ...]


def trace(model: Any, token_counts: Iterable[int] = (2, 1)) -> Trace:
    """Run `model` on one sequence, `token_counts` tokens at a time, without evaluating anything; its layers are watched
    and restored afterwards. Call it on the MLX thread that owns the model's arrays.
    """
    tracer = _Tracer(model)
    layers = list(model.layers)
    for index, layer in enumerate(layers):
        swap(layer, partial(tracer.watch, index))
    try:
        steps = tuple(tracer.step(tokens) for tokens in token_counts)
    finally:
        for layer in reversed(layers):
            restore(layer)
    return Trace(tuple(tracer.slots), tracer.outer_slots(), steps)


class _Tracer:
    """Names every placeholder (`p…`) and every result (`r…`) so that they can be found again in the exported graph."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.slots: list[Any] = make_prompt_cache(model)
        self._calls: list[LayerCall] = []
        self._placeholders: dict[str, mx.array] = {}
        self._produced: dict[str, Produced] = {}
        self._given: list[mx.array] = []
        self._names: dict[int, str] = {}
        self._results: dict[str, mx.array] = {}
        self._owners: dict[str, int] = {}

    def step(self, tokens: int) -> Step:
        """One forward pass over `tokens` tokens."""
        self._calls, self._results, self._owners = [], {}, {}
        logits = self.model(mx.zeros((1, tokens), mx.int32), cache=list(self.slots))
        self._record(len(self.model.layers), [logits])
        return Step(tuple(self._calls), self._reads())

    def outer_slots(self) -> tuple[int, ...]:
        """Slots that hold arrays though no layer was given them."""
        given = {slot for call in self._calls for slot in call.slots}
        return tuple(slot for slot, cache in enumerate(self.slots) if slot not in given and cache_arrays(cache))

    def watch(self, layer: int, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one layer, note what it read, and put placeholders in place of all it produced."""
        values = [*args, *kwargs.values()]
        caches, dicts = caches_in(values), dicts_in(values)
        given = (self._names.get(id(array)) for array in arrays_in(values).values())
        given_here = frozenset(self._produced[name] for name in given if name)
        output = [forward(*args, **kwargs), dicts]
        self._record(layer, arrays_in(output).values())
        value, new_dicts = map_arrays(partial(self._placeholder, layer), output)
        for old, new in zip(dicts, new_dicts, strict=True):
            old.clear()
            old.update(new)
        for cache in caches:
            self._record(layer, cache_arrays(cache))
            map_cache(partial(self._placeholder, layer, None), cache)
        slots = tuple(slot for slot, cache in enumerate(self.slots) if any(cache is other for other in caches))
        self._calls.append(LayerCall(layer, slots, given_here, Boundary(value, tuple(map(dict, new_dicts)))))
        return value

    def _placeholder(self, layer: int, path: str | None, array: mx.array) -> mx.array:
        name = f"p{len(self._placeholders)}"
        self._placeholders[name] = mx.zeros(array.shape, array.dtype)
        self._produced[name] = Produced(layer, path)
        given = mx.stop_gradient(self._placeholders[name])  # the model may change its own array object in place
        self._names[id(given)] = name
        self._given.append(given)  # kept, so that no other object gets its id
        return given

    def _record(self, owner: int, arrays: Iterable[mx.array]) -> None:
        for array in arrays:
            name = f"r{len(self._results)}"
            self._results[name] = mx.stop_gradient(array)  # a node of its own: a layer may return what it was given
            self._owners[name] = owner

    def _reads(self) -> dict[int, frozenset[Produced]]:
        graph = io.StringIO()
        mx.export_to_dot(graph, **self._results, **self._placeholders)
        inputs = _inputs_by_array(graph.getvalue())
        reads: dict[int, set[Produced]] = {}
        for result, owner in self._owners.items():
            found = _ancestors(result, inputs) & self._produced.keys()
            reads.setdefault(owner, set()).update(self._produced[name] for name in found)
        return {owner: frozenset(found) for owner, found in reads.items()}


def _inputs_by_array(dot: str) -> dict[str, list[str]]:
    """The arrays that each array is computed from. Read in order, as calls of one compiled function share a node: an
    operation's line, its inputs, its outputs, then the next operation's.
    """
    inputs: dict[str, list[str]] = {}
    current: list[str] = []
    for operation, source, output in _LINE.findall(dot):
        if operation:
            current = []
        elif source:
            current.append(source)
        else:
            inputs[output] = current
    return inputs


def _ancestors(node: str, inputs: Mapping[str, list[str]]) -> set[str]:
    seen = {node}
    queue = [node]
    while queue:
        for source in inputs.get(queue.pop(), ()):
            if source not in seen:
                seen.add(source)
                queue.append(source)
    return seen
