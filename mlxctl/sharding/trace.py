"""One unevaluated forward pass, watched: what each layer reads and returns. Called by the layer map.

Everything a layer returns or leaves in a cache is replaced by placeholders at once, so that the graph of the pass falls
apart into one piece a layer; which placeholders a piece hangs on says which layers it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxctl.sharding.boundary import Boundary
from mlxctl.sharding.caches import cache_arrays, caches_in, map_cache
from mlxctl.sharding.graph import dependencies
from mlxctl.sharding.pytree import arrays_in, dicts_in
from mlxctl.sharding.swap import restore, swap

LONG_TOKENS = 256  # fills the groups of tokens that models compress


@dataclass(frozen=True, slots=True)
class Produced:
    """Where a placeholder stands: layer `layer` returned it at `path`, or left it in one of its caches (no path)."""

    layer: int
    path: str | None


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of layer `layer`: the cache slots it got, the placeholders it was `given`, what it returned.

    Of the dicts it shares with other layers: the paths it took out, and those it wrote without having taken them out.
    """

    layer: int
    slots: tuple[int, ...]
    given: frozenset[Produced]
    output: Boundary
    taken: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass. `reads[i]` is what the results of layer i hang on; the last entry is that of the logits."""

    calls: tuple[LayerCall, ...]
    reads: Mapping[int, frozenset[Produced]]


@dataclass(frozen=True, slots=True)
class Trace:
    """`outer_slots` are the cache slots that code outside the layers fills. `long_steps` are two passes of 256 tokens
    each, for models whose layers share dicts: these may hold whole contexts, from a certain length on.
    """

    slots: tuple[Any, ...]
    outer_slots: tuple[int, ...]
    steps: tuple[Step, ...]
    long_steps: tuple[Step, ...] = ()


def trace(model: Any, token_counts: Iterable[int]) -> Trace:
    """Run `model` on one sequence, `token_counts` tokens at a time, without evaluating anything; its layers are watched
    and restored afterwards. Call it on the MLX thread that owns the model's arrays.
    """
    tracer = _Tracer(model)
    steps = tracer.run(token_counts)
    shares_dicts = any(call.output.dicts for step in steps for call in step.calls)
    long_steps = _Tracer(model).run((LONG_TOKENS, LONG_TOKENS)) if shares_dicts else ()
    return Trace(tuple(tracer.slots), tracer.outer_slots(), steps, long_steps)


class _Tracer:
    """Names every placeholder (`p…`) and every result (`r…`) so that they can be found again in the exported graph."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.slots: list[Any] = make_prompt_cache(model)
        self._calls: list[LayerCall] = []
        self._placeholders: dict[str, mx.array] = {}
        self._produced: dict[str, Produced] = {}
        self._handed: list[mx.array] = []
        self._names: dict[int, str] = {}
        self._results: dict[str, mx.array] = {}
        self._owners: dict[str, int] = {}

    def run(self, token_counts: Iterable[int]) -> tuple[Step, ...]:
        """One pass for each of `token_counts`, one after the other in the same caches."""
        layers = list(self.model.layers)
        for index, layer in enumerate(layers):
            swap(layer, partial(self._watch, index))
        try:
            return tuple(self._step(tokens) for tokens in token_counts)
        finally:
            for layer in reversed(layers):
                restore(layer)

    def outer_slots(self) -> tuple[int, ...]:
        """Slots that hold arrays though no layer was given them."""
        given = {slot for call in self._calls for slot in call.slots}
        return tuple(slot for slot, cache in enumerate(self.slots) if slot not in given and cache_arrays(cache))

    def _step(self, tokens: int) -> Step:
        self._calls, self._results, self._owners = [], {}, {}
        logits = self.model(mx.zeros((1, tokens), mx.int32), cache=list(self.slots))
        self._record(len(self.model.layers), [logits])
        return Step(tuple(self._calls), self._reads())

    def _watch(self, layer: int, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one layer, note what it read, and put placeholders in place of all it produced."""
        values = [*args, *kwargs.values()]
        caches, dicts = caches_in(values), dicts_in(values)
        given = self._known(arrays_in([value for value in values if type(value) is not dict]).values())
        watched = {id(shared): _WatchedDict(shared) for shared in dicts}
        value = forward(
            *(watched.get(id(argument), argument) for argument in args),
            **{key: watched.get(id(argument), argument) for key, argument in kwargs.items()},
        )
        output = Boundary(value, tuple(shared.content for shared in watched.values()))
        self._record(layer, output.arrays.values())
        output = output.map_arrays(partial(self._placeholder, layer))
        for old, new in zip(dicts, output.dicts, strict=True):
            old.clear()
            old.update(new)
        for cache in caches:
            self._record(layer, cache_arrays(cache))
            map_cache(partial(self._placeholder, layer, None), cache)
        slots = tuple(slot for slot, cache in enumerate(self.slots) if any(cache is other for other in caches))
        taken, replaced = _accesses(watched.values())
        self._calls.append(LayerCall(layer, slots, given, output.snapshot(), taken, replaced))
        return output.value

    def _known(self, arrays: Iterable[mx.array]) -> frozenset[Produced]:
        names = (self._names.get(id(array)) for array in arrays)
        return frozenset(self._produced[name] for name in names if name)

    def _placeholder(self, layer: int, path: str | None, array: mx.array) -> mx.array:
        name = f"p{len(self._placeholders)}"
        self._placeholders[name] = mx.zeros(array.shape, array.dtype)
        self._produced[name] = Produced(layer, path)
        handed = mx.stop_gradient(self._placeholders[name])  # the model may change its own array object in place
        self._names[id(handed)] = name
        self._handed.append(handed)  # kept, so that no other object gets its id
        return handed

    def _record(self, owner: int, arrays: Iterable[mx.array]) -> None:
        for array in arrays:
            if id(array) in self._names:  # passed on, not computed from
                continue
            name = f"r{len(self._results)}"
            self._results[name] = mx.stop_gradient(array)
            self._owners[name] = owner

    def _reads(self) -> dict[int, frozenset[Produced]]:
        reads: dict[int, set[Produced]] = {}
        for result, sources in dependencies(self._results, self._placeholders).items():
            reads.setdefault(self._owners[result], set()).update(self._produced[name] for name in sources)
        return {owner: frozenset(found) for owner, found in reads.items()}


class _WatchedDict(MutableMapping[str, Any]):
    """Remembers the keys taken out of it, and those written that had not been taken out before."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = dict(content)
        self.taken: set[str] = set()
        self.replaced: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        if key not in self.replaced:
            self.taken.add(key)
        return self.content[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self.taken:
            self.replaced.add(key)
        self.content[key] = value

    def __delitem__(self, key: str) -> None:
        del self.content[key]

    def __iter__(self) -> Iterator[str]:
        self.taken.update(self.content.keys() - self.replaced)
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


def _accesses(watched: Iterable[_WatchedDict]) -> tuple[frozenset[str], frozenset[str]]:
    """Paths taken and replaced, as they stand in a Boundary."""
    indexed = list(enumerate(watched))
    taken = frozenset(f"/1/{index}/{key}" for index, shared in indexed for key in shared.taken)
    return taken, frozenset(f"/1/{index}/{key}" for index, shared in indexed for key in shared.replaced)
