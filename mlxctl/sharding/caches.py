"""KV caches of one stage: real ones for its own layers, stand-ins for all others. Called by Shard and the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_cache

from mlxctl.errors import CheckpointError

# Attributes that tell two caches of one class apart; everything else in a cache is its state.
_SETTINGS = ("max_size", "keep", "chunk_size", "window_size", "bits", "group_size")


def is_cache(node: Any) -> bool:
    """True for mlx-lm's caches and for those that a model brings along."""
    return isinstance(node, mlx_cache._BaseCache) or (hasattr(node, "state") and hasattr(node, "is_trimmable"))


def caches_in(args: Sequence[Any]) -> list[Any]:
    """The caches among a layer's arguments, also those in a list or tuple of caches."""
    found: list[Any] = []
    for value in args:
        if is_cache(value):
            found.append(value)
        elif isinstance(value, list | tuple) and value and all(is_cache(item) for item in value):
            found.extend(value)
    return found


def kind(cache: Any) -> str:
    """Caches of one kind advance alike, so that one can stand in for the other."""
    name = type(cache).__name__
    if isinstance(cache, mlx_cache.CacheList):
        return f"{name}({', '.join(kind(part) for part in cache.caches)})"
    if isinstance(cache, mlx_cache.ArraysCache):
        return name
    settings = [f"{key}={vars(cache)[key]}" for key in _SETTINGS if isinstance(vars(cache).get(key), int)]
    return f"{name}({', '.join(settings)})" if settings else name


def map_cache(function: Callable[[mx.array], mx.array], cache: Any) -> None:
    """Replace every array inside `cache` by `function(array)`, in place."""
    for key, value in vars(cache).items():
        setattr(cache, key, _mapped(function, value))


def cache_arrays(cache: Any) -> list[mx.array]:
    """The arrays inside `cache`, allocated rows included."""
    return list(_arrays(cache))


def _mapped(function: Callable[[mx.array], mx.array], value: Any) -> Any:
    if isinstance(value, mx.array):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)(_mapped(function, item) for item in value)
    if is_cache(value):
        map_cache(function, value)
    return value


def _arrays(value: Any) -> Iterator[mx.array]:
    if isinstance(value, mx.array):
        yield value
    elif type(value) in (list, tuple):
        for item in value:
            yield from _arrays(item)
    elif is_cache(value):
        for item in vars(value).values():
            yield from _arrays(item)


def advance(cache: Any, rows: int, columns: int) -> None:
    """Let a ghost pass over `columns` tokens of `rows` sequences with one-element rows: its offset stays right."""
    if isinstance(cache, mlx_cache.CacheList):
        for part in cache.caches:
            advance(part, rows, columns)
    elif isinstance(cache, mlx_cache.ArraysCache):
        for index, value in enumerate(cache.cache):
            cache[index] = mx.zeros((rows, 1, 1), mx.float16) if value is None else value
        cache.advance(columns)
    elif hasattr(cache, "update_and_fetch"):
        if hasattr(cache, "maybe_trim_front"):
            cache.maybe_trim_front()
        row = mx.zeros((rows, 1, columns, 1), mx.float16)
        cache.update_and_fetch(row, row)
    elif isinstance(getattr(cache, "offset", None), int):
        cache.offset += columns
    else:
        raise CheckpointError(f"nothing can stand in for a cache of kind {kind(cache)}")


class ShardCache:
    """All cache slots of a model as one stage sees them, for one lane of sequences.

    Slots of own layers are real. A foreign slot is an alias of an own one of the same kind, whose offset is the same by
    construction; where no own slot has that kind, one ghost a kind stands in. So `cache[k]` is right for any k.
    """

    def __init__(self, slots: Sequence[Any], own: Sequence[int]) -> None:
        """`slots` as the model made them; `own` are the indices that must be real."""
        stand_in = {kind(slots[slot]): slots[slot] for slot in reversed(own)}
        ghosts = []
        for slot, cache in enumerate(slots):
            if slot not in own and kind(cache) not in stand_in:
                stand_in[kind(cache)] = cache
                ghosts.append(cache)
        self.slots = [cache if slot in own else stand_in[kind(cache)] for slot, cache in enumerate(slots)]
        self.offset = 0
        self._ghosts = ghosts
        self._caches = [slots[slot] for slot in own] + ghosts

    def ghosts_in(self, args: Sequence[Any]) -> list[Any]:
        """The ghosts among a layer's arguments."""
        return [cache for cache in caches_in(args) if any(cache is ghost for ghost in self._ghosts)]

    def arrays(self) -> list[mx.array]:
        """Every array held: evaluate them with the step's output, or the graph grows from step to step."""
        return [array for cache in self._caches for array in cache_arrays(cache)]

    @property
    def nbytes(self) -> int:
        """Bytes held, rows allocated ahead included."""
        return sum(array.nbytes for array in self.arrays())

    @property
    def is_trimmable(self) -> bool:
        """Whether `trim` can forget now; a rotating cache that has wrapped around cannot."""
        return all(cache.is_trimmable() for cache in self._caches)

    def trim(self, tokens: int) -> int:
        """Forget the last `tokens` tokens; returns how many were forgotten, 0 if the caches cannot."""
        if not self.is_trimmable:
            return 0
        trimmed = min(tokens, self.offset)
        for cache in self._caches:
            cache.trim(trimmed)
        self.offset -= trimmed
        return trimmed
